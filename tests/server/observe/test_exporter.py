from __future__ import annotations

import socket
import threading

import httpx
import pytest

from sluicegate.server.errors import SettingsError
from sluicegate.server.observe.exporter import exported
from sluicegate.server.observe.metrics import Metrics


def get(port: int, path: str = "/metrics") -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)


def test_metrics_are_served_in_the_format_that_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.engine.restarts.inc()

    with exported(metrics, "127.0.0.1:0") as port:
        answer = get(port)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "sluicegate_engine_restarts_total 1.0" in answer.text.splitlines()
    assert any(line.startswith("process_resident_memory_bytes ") for line in answer.text.splitlines())


def test_nothing_is_left_of_it_afterwards() -> None:
    before = threading.active_count()

    with exported(Metrics(), "127.0.0.1:0") as port:
        assert get(port).status_code == 200

    assert threading.active_count() == before
    with pytest.raises(httpx.ConnectError):
        get(port)


def test_it_listens_on_ipv6_too() -> None:
    with exported(Metrics(), "[::1]:0") as port:
        answer = httpx.get(f"http://[::1]:{port}/metrics", trust_env=False)

    assert answer.status_code == 200


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(SettingsError) as caught, exported(Metrics(), address):
            pass

    assert caught.value.problems == (f"metrics.listen: cannot listen on {address}: Address already in use",)
