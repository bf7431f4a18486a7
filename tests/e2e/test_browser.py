"""A page in headless Chromium reads streams through Envoy: by gRPC-Web with a client that is not ours, and by fetch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Site, site
from client_server import Hold, delta, serving, started
from envoy_proxy import Document, Envoy, configuration, connections, envoy
from real_server import RealServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SERVICE = "sluicegate.v1.GenerationService"
ASKED: dict[str, Any] = {"model": "demo-xs", "text": "It was", "tokens": 6, "seed": "9007199254740993"}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page at an origin that Envoy lets in."""
    with site(tmp_path_factory.mktemp("ours")) as opened:
        yield opened


def for_pages_of(origin: str, replicas: list[str]) -> Document:
    document = configuration(replicas)
    (host,) = connections(document)["route_config"]["virtual_hosts"]
    policy = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    policy["allow_origin_string_match"] = [{"exact": origin}]
    return document


@pytest.fixture(scope="module")
def proxy(ours: Site, server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    with envoy(tmp_path_factory.mktemp("envoy"), for_pages_of(ours.origin, [server.address])) as running:
        running.wait_for_healthy([server.address])
        yield running


def text(told: dict[str, Any]) -> str:
    return "".join(piece for kind, piece in told["events"] if kind == "delta")


def test_both_ways_a_page_reads_the_same_stream(ours: Site, proxy: Envoy, server: RealServer) -> None:
    by = {
        way: ours.visit(way=way, base=f"http://{proxy.address}", token=server.token(), **ASKED)
        for way in ("grpc_web", "rest")
    }

    for told in by.values():
        kinds = [kind for kind, _ in told["events"]]
        assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("started", "finished", {"delta"})
    assert text(by["grpc_web"]) == text(by["rest"]) != ""
    assert (by["grpc_web"]["code"], by["rest"]["code"]) == ("OK", 200)


@pytest.mark.parametrize(("way", "code"), [("grpc_web", "PermissionDenied"), ("rest", 403)])
def test_a_page_reads_why_it_is_refused(ours: Site, proxy: Envoy, server: RealServer, way: str, code: object) -> None:
    token = server.token(scopes=("score:demo-xs",))

    told = ours.visit(way=way, base=f"http://{proxy.address}", token=token, **ASKED)

    assert (told["code"], told["reason"], told["events"]) == (code, "SCOPE_MISSING", [])


@pytest.mark.parametrize("way", ["grpc_web", "rest"])
def test_a_page_of_another_origin_does_not_get_as_far_as_a_call(
    tmp_path: Path, proxy: Envoy, server: RealServer, way: str
) -> None:
    before = server.metric("grpc_server_started_total", grpc_service=SERVICE)

    with site(tmp_path) as theirs:
        told = theirs.visit(way=way, base=f"http://{proxy.address}", token=server.token(), **ASKED)

    assert told["events"] == []
    assert "Failed to fetch" in told.get("error", told.get("text", ""))
    assert server.metric("grpc_server_started_total", grpc_service=SERVICE) == before


@pytest.mark.parametrize("way", ["grpc_web", "rest"])
def test_text_comes_while_the_stream_runs_and_leaving_ends_it_at_the_replica(
    tmp_path: Path, ours: Site, way: str
) -> None:
    with serving() as replica:
        replica.will("StreamGenerate", (started(), delta("It"), Hold()))
        with envoy(tmp_path, for_pages_of(ours.origin, [replica.target])) as proxy:
            proxy.wait_for_healthy([replica.target])

            told = ours.visit(way=way, base=f"http://{proxy.address}", token="any", leave_after=2, **ASKED)

            assert replica.calls[0].wait_for_end()
    assert told["events"] == [["started", ""], ["delta", "It"]]
