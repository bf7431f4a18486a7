"""Envoy with the chart's configuration, before replicas that do what a test scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from client_server import FakeServer, Hold, Refusal, Step, delta, finished, serving, started
from envoy_proxy import Envoy, configuration, connections, envoy
from grpc_health.v1 import health_pb2, health_pb2_grpc
from real_server import wait_for

from sluicegate.v1 import generation_service_pb2_grpc
from sluicegate.v1.generation_service_pb2 import StreamGenerateRequest, StreamGenerateResponse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

STREAM = "StreamGenerate"
SECONDS = 30.0
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
ONE_OF_ITS_OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
"""A connection that no other channel shares, over which nothing is repeated but by Envoy."""
WHOLE: tuple[Step, ...] = (started(), delta("It"), finished())
AWAY = Refusal(code=grpc.StatusCode.UNAVAILABLE, reason="SERVER_OVERLOADED", retry_after=0.5)

Metadata = Sequence[tuple[str, str | bytes]]


@pytest.fixture
def replicas() -> Iterator[list[FakeServer]]:
    """Three, which serve."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving(at_once=128)) for _ in range(3)]


@pytest.fixture
def proxy(tmp_path: Path, replicas: list[FakeServer]) -> Iterator[Envoy]:
    """Envoy, which knows that all of them serve."""
    targets = [replica.target for replica in replicas]
    with envoy(tmp_path, configuration(targets)) as running:
        running.wait_for_healthy(targets)
        yield running


@pytest.fixture
def channel(proxy: Envoy) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(proxy.address, ONE_OF_ITS_OWN) as opened:
        yield opened


def script(replicas: Sequence[FakeServer], *attempts: Sequence[Step]) -> None:
    for replica in replicas:
        replica.will(STREAM, *attempts)


def calls(replicas: Sequence[FakeServer]) -> list[int]:
    """How many each has had."""
    return [len(replica.calls) for replica in replicas]


def stream(channel: grpc.Channel, metadata: Metadata = ()) -> Iterator[StreamGenerateResponse]:
    stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
    opened: Iterator[StreamGenerateResponse] = stub.StreamGenerate(
        StreamGenerateRequest(model="gpt2-124m", text="It was"), metadata=tuple(metadata), timeout=SECONDS
    )
    return opened


def begun(channel: grpc.Channel, count: int) -> list[Iterator[StreamGenerateResponse]]:
    """So many streams, each begun before the next: Envoy does not count those for which it still connects."""
    opened = []
    for _ in range(count):
        opened.append(stream(channel))
        next(opened[-1])
    return opened


def trailers(error: grpc.RpcError) -> dict[str, str | bytes]:
    """The trailing metadata of a call that failed."""
    found: Any = error  # its type stubs do not know that it is the call
    return dict(found.trailing_metadata())


def test_streams_are_spread_evenly(replicas: list[FakeServer], proxy: Envoy) -> None:
    script(replicas, (started(), Hold()))
    with ExitStack() as stack:
        callers = [stack.enter_context(grpc.insecure_channel(proxy.address, ONE_OF_ITS_OWN)) for _ in range(3)]

        opened = [each for caller in callers for each in begun(caller, 90)]

    assert sum(calls(replicas)) == len(opened)
    assert max(calls(replicas)) - min(calls(replicas)) <= 7, "drawn by lot, they differ by 14 on average"


def test_a_replica_that_drains_gets_no_calls_and_keeps_its_streams(
    replicas: list[FakeServer], proxy: Envoy, channel: grpc.Channel
) -> None:
    script(replicas, (started(), Hold()))
    opened = stream(channel)
    next(opened)
    (draining,) = [replica for replica in replicas if replica.calls]
    others = [replica for replica in replicas if replica is not draining]

    draining.health.set("", NOT_SERVING)
    proxy.wait_for_healthy([other.target for other in others])
    later = begun(channel, 12)

    assert calls([draining]) == [1]
    assert sum(calls(others)) == len(later)
    assert not draining.calls[0].over.is_set()
    draining.health.set("", SERVING)
    proxy.wait_for_healthy([replica.target for replica in replicas])


def test_with_every_replica_away_a_call_is_told_so(
    replicas: list[FakeServer], proxy: Envoy, channel: grpc.Channel
) -> None:
    script(replicas, WHOLE)
    for replica in replicas:
        replica.health.set("", NOT_SERVING)
    proxy.wait_for_healthy([])

    with pytest.raises(grpc.RpcError) as refused:
        next(stream(channel))

    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert calls(replicas) == [0, 0, 0]


def test_a_call_that_a_replica_turns_away_is_served_by_another(
    replicas: list[FakeServer], proxy: Envoy, channel: grpc.Channel
) -> None:
    """Also when that is the one with the fewest streams, time and again."""
    full, *others = replicas
    script(others, (started(), Hold()))
    script([full], (AWAY,))

    opened = begun(channel, 20)

    assert sum(calls(others)) == len(opened)
    assert calls([full]) > [0]
    assert proxy.healthy() == {replica.target for replica in replicas}, "it is full, not broken"


def test_a_stream_that_has_begun_is_never_repeated(replicas: list[FakeServer], channel: grpc.Channel) -> None:
    lost = Refusal(code=grpc.StatusCode.UNAVAILABLE, reason="ENGINE_LOST", usage=(3, 1))
    script(replicas, (started(), delta("It"), lost))
    opened = stream(channel)
    received = [next(opened), next(opened)]

    with pytest.raises(grpc.RpcError) as cut:
        next(opened)

    assert [message.WhichOneof("event") for message in received] == ["started", "delta"]
    assert cut.value.code() == grpc.StatusCode.UNAVAILABLE
    assert {"grpc-status-details-bin", "sluicegate-usage-bin"} <= trailers(cut.value).keys()
    assert sum(calls(replicas)) == 1


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ],
)
@pytest.mark.parametrize(
    "wishes", [(), (("x-envoy-retry-grpc-on", "cancelled,internal,resource-exhausted"), ("x-envoy-max-retries", "9"))]
)
def test_no_other_status_is_repeated_whatever_the_caller_wishes(
    replicas: list[FakeServer], channel: grpc.Channel, code: grpc.StatusCode, wishes: Metadata
) -> None:
    script(replicas, (Refusal(code=code, reason="INTERNAL"),))

    with pytest.raises(grpc.RpcError) as refused:
        next(stream(channel, wishes))

    assert refused.value.code() == code
    assert sum(calls(replicas)) == 1


def test_a_call_is_tried_three_times_at_most_and_then_refused_as_the_server_did(
    replicas: list[FakeServer], channel: grpc.Channel
) -> None:
    script(replicas, (AWAY,))

    with pytest.raises(grpc.RpcError) as refused:
        next(stream(channel, (("x-envoy-retry-on", "unavailable"), ("x-envoy-max-retries", "9"))))

    assert refused.value.details() == AWAY.text
    assert trailers(refused.value)["grpc-status-details-bin"] == dict(AWAY.trailers())["grpc-status-details-bin"]
    assert sum(calls(replicas)) == 3


def test_a_cancelled_call_ends_at_its_replica_too(replicas: list[FakeServer], channel: grpc.Channel) -> None:
    script(replicas, (started(), Hold()))
    stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
    opened = stub.StreamGenerate(StreamGenerateRequest(), timeout=SECONDS)
    next(opened)
    (call,) = [call for replica in replicas for call in replica.calls]

    opened.cancel()

    assert call.wait_for_end()


def test_what_a_caller_says_of_itself_does_not_pass(replicas: list[FakeServer], channel: grpc.Channel) -> None:
    script(replicas, WHOLE)
    forged = (
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-client-cert", "Hash=" + "a" * 64),
        ("x-envoy-external-address", "203.0.113.1"),
        ("x-envoy-attempt-count", "7"),
    )

    list(stream(channel, (*forged, ("authorization", "Bearer token"))))

    (call,) = [call for replica in replicas for call in replica.calls]
    # Envoy writes its own address in the place of a loopback one.
    assert str(ip_address(str(call.metadata["x-forwarded-for"]))) != "203.0.113.1"
    assert call.metadata["x-envoy-external-address"] == "127.0.0.1"
    assert call.metadata["authorization"] == "Bearer token"
    assert not {"x-forwarded-client-cert", "x-envoy-attempt-count"} & call.metadata.keys()


def test_metadata_that_a_server_would_refuse_is_refused_here(replicas: list[FakeServer], channel: grpc.Channel) -> None:
    script(replicas, WHOLE)

    with pytest.raises(grpc.RpcError):
        next(stream(channel, (("authorization", "Bearer " + "a" * (15 << 10)),)))

    assert calls(replicas) == [0, 0, 0]


def test_health_of_a_single_replica_is_not_told_to_callers(channel: grpc.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its type stubs know no method

    with pytest.raises(grpc.RpcError) as refused:
        stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)

    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_connection_that_is_too_old_keeps_its_streams_and_gets_no_more(
    tmp_path: Path, replicas: list[FakeServer]
) -> None:
    script(replicas, (started(), Hold()))
    document = configuration([replica.target for replica in replicas])
    connections(document)["common_http_protocol_options"]["max_connection_duration"] = "0.5s"
    connections(document)["drain_timeout"] = "0.1s"
    with envoy(tmp_path, document) as proxy, grpc.insecure_channel(proxy.address, ONE_OF_ITS_OWN) as channel:
        proxy.wait_for_healthy([replica.target for replica in replicas])
        old = stream(channel)
        next(old)
        wait_for("too old", lambda: proxy.statistic("http.callers.downstream_cx_max_duration_reached") > 0)

        new = stream(channel)
        next(new)

        assert proxy.statistic("http.callers.downstream_cx_total") == 2
        assert not any(call.over.is_set() for replica in replicas for call in replica.calls)


def test_the_access_log_has_neither_tokens_nor_addresses_nor_queries(
    replicas: list[FakeServer], proxy: Envoy, channel: grpc.Channel
) -> None:
    script(replicas, WHOLE)

    list(stream(channel, (("authorization", "Bearer secret-token"),)))

    wait_for("logged", proxy.access)
    (entry,) = proxy.access()
    assert (entry["path"], entry["status"], entry["attempts"]) == (
        "/sluicegate.v1.GenerationService/StreamGenerate",
        200,
        1,
    )
    assert entry["grpc_status"] == "OK"
    assert "secret-token" not in proxy.log_file.read_text()
    assert entry.keys() == {
        *("time", "method", "path", "protocol", "status", "grpc_status", "flags", "details", "duration_ms"),
        *("bytes_received", "bytes_sent", "attempts", "replica"),
    }
