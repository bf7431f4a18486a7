"""Where Alertmanager's messages arrive: it stands for the pager and the ticket system of the people who are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue

LONGEST_BYTES = 1 << 20
READ_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Told:
    """One alert in a message that it fires, and the receiver that the message was for."""

    receiver: str
    name: str
    partner: str | None
    summary: str


@dataclass(frozen=True, slots=True)
class Inbox:
    """A listening receiver. Messages are put in by its threads; anyone may take them out."""

    url: str
    messages: SimpleQueue[Told]


@contextmanager
def inbox() -> Iterator[Inbox]:
    """Listen on a free port of loopback."""
    messages: SimpleQueue[Told] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        timeout = READ_SECONDS

        def do_POST(self) -> None:
            self.send_response(self._taken())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _taken(self) -> HTTPStatus:
            try:
                length = int(self.headers.get("Content-Length", ""))
                if not 0 <= length <= LONGEST_BYTES:
                    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                found = read_message(self.rfile.read(length))
            except ValueError:
                return HTTPStatus.BAD_REQUEST
            for told in found:
                messages.put(told)
            return HTTPStatus.OK

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Nothing: the tour says what has come."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield Inbox(f"http://127.0.0.1:{server.server_port}", messages)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def read_message(body: bytes) -> list[Told]:
    """The alerts of a webhook message that fire (Alertmanager's webhook_config, version 4). Raises ValueError."""
    match json.loads(body):
        case {"receiver": str(receiver), "alerts": list(alerts)}:
            return [
                Told(receiver, name, partner, summary)
                for name, partner, summary in map(_firing, alerts)
                if name is not None
            ]
    raise ValueError("not a message of Alertmanager")


def _firing(alert: object) -> tuple[str | None, str | None, str]:
    """Its name, partner and summary; no name if it does not fire."""
    match alert:
        case {"status": "firing", "labels": {"alertname": str(name), **labels}, "annotations": dict(annotations)}:
            partner = labels.get("partner")
            return name, None if partner is None else str(partner), str(annotations.get("summary", ""))
    return None, None, ""
