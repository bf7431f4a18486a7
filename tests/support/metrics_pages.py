"""Pages of metrics, and servers on loopback that show them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import generate_latest

from sluicegate.auth import Audience
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.observe.reading import Samples, read_page

MODELS = ("gpt2-124m", "gpt2-774m")
PARTNERS = ("example-lab", "newsroom")


def server_metrics(*, revision: str = "5f0c", stage: str = "s2", categories: tuple[str, ...] = ("fraud",)) -> Metrics:
    """Those of a server that has just started: two partners, two models, one of them ready and public."""
    metrics = Metrics(flagged_categories=categories)
    metrics.allow(MODELS, PARTNERS)
    metrics.control.policy_info.info({"revision": revision, "stage": stage})
    metrics.control.take_open(MODELS, {"gpt2-124m": Audience.PUBLIC, "gpt2-774m": Audience.PARTNER})
    metrics.engine.take_state("gpt2-124m", is_ready=True)
    metrics.control.audit_enabled.set(1)
    return metrics


def page_of(metrics: Metrics) -> bytes:
    return generate_latest(metrics.registry)


def samples_of(metrics: Metrics) -> Samples:
    return read_page(page_of(metrics))


@dataclass(slots=True)
class PageServer:
    """What is answered, changed at will. `answers`: status and body for each path; `asked`: all that was asked."""

    url: str
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    def show(self, metrics: Metrics, path: str = "/metrics") -> None:
        self.answers[path] = (200, page_of(metrics))


@contextmanager
def page_server() -> Iterator[PageServer]:
    """A web server in a thread, gone with the context."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            status, body = shown.answers.get(self.path.partition("?")[0], (404, b""))
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **shown.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        shown = PageServer(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield shown
        finally:
            server.shutdown()
            thread.join()
