from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from sluicegate.server.demo.figures import Figures, read_figures

TEXT = """# HELP streams_active Generations under way.
# TYPE streams_active gauge
streams_active{model="demo-l",partner="internal"} 2.0
streams_active{model="demo-l",partner="public"} 1.0
streams_active{model="demo-s",partner="public"} 8.0
streams_active_total{model="demo-l"} 64.0
info{text="a \\"quoted\\", odd } value"} 1.0
plain 5e-05
zero 0.0
"""


@pytest.mark.parametrize(
    ("name", "labels", "total"),
    [
        ("streams_active", {}, 11),
        ("streams_active", {"model": "demo-l"}, 3),
        ("streams_active", {"model": "demo-l", "partner": "public"}, 1),
        ("streams_active", {"model": "demo"}, 0),
        ("info", {"text": '\\"quoted\\"'}, 0),
        ("info", {}, 1),
        ("plain", {}, 5e-05),
        ("absent", {}, 0),
    ],
)
def test_total_sums_the_samples_that_have_the_labels(name: str, labels: dict[str, str], total: float) -> None:
    assert Figures(TEXT).total(name, **labels) == total


def test_lines_are_the_samples_of_one_metric_that_are_not_zero() -> None:
    assert Figures(TEXT).lines("streams_active") == TEXT.splitlines()[2:5]
    assert Figures(TEXT).lines("zero") == []


@pytest.fixture
def exported() -> Iterator[str]:
    registry = CollectorRegistry()
    Gauge("depth", "How deep.", registry=registry).set(3)
    Counter("calls", "How many.", ["code"], registry=registry).labels("OK").inc()
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_figures_are_read_from_an_exporter(exported: str) -> None:
    figures = read_figures(exported)

    assert figures.total("depth") == 3
    assert figures.total("calls_total", code="OK") == 1


def test_nobody_at_the_address_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

    with pytest.raises(OSError, match="refused"):
        read_figures(address)
