"""One client of several replicas: whom its calls go to, and what it reads when there is nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from socket import socket

import pytest
from client_server import FakeServer, Pause, delta, finished, serving, started
from client_terminal import sluicegate
from grpc_health.v1.health_pb2 import HealthCheckResponse

from sluicegate.client import Client, Finished, Unavailable
from sluicegate.v1.access_service_pb2 import GetCallerIdentityResponse

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
LIMIT = 1_000
"""Calls after which what a replica said of its health should have arrived."""


@pytest.fixture
def replicas() -> Iterator[tuple[FakeServer, FakeServer]]:
    """Two, which answer `whoami`."""
    with serving() as first, serving() as second:
        for each in (first, second):
            each.will("GetCallerIdentity", [GetCallerIdentityResponse(subject="alice")])
        yield first, second


def target_of(*servers: FakeServer) -> str:
    return "ipv4:" + ",".join(each.target for each in servers)


async def calls_of_a_round(client: Client, replica: FakeServer) -> int:
    """How many calls of a round, of as many as there are replicas, this one gets."""
    before = len(replica.calls)
    for _ in range(2):
        await client.whoami()
    return len(replica.calls) - before


async def until_calls_of_a_round_are(count: int, client: Client, replica: FakeServer) -> None:
    for _ in range(LIMIT):
        if await calls_of_a_round(client, replica) == count:
            return
    raise AssertionError(f"after {LIMIT} rounds the replica does not get {count} calls of each")


async def test_replicas_get_calls_in_turn(replicas: tuple[FakeServer, FakeServer]) -> None:
    async with Client(target_of(*replicas)) as client:
        await until_calls_of_a_round_are(1, client, replicas[0])

        assert [await calls_of_a_round(client, replicas[0]) for _ in range(5)] == [1] * 5


async def test_a_replica_that_drains_gets_no_new_calls_and_its_stream_goes_on(
    replicas: tuple[FakeServer, FakeServer],
) -> None:
    pause = Pause()
    for each in replicas:
        each.will("StreamGenerate", [started(), pause, delta("text"), finished()])
    async with Client(target_of(*replicas), health_check="") as client, client.stream("gpt2-124m", "Once") as stream:
        await anext(stream)
        (draining,) = (each for each in replicas if any(call.method == "StreamGenerate" for call in each.calls))

        draining.health.set("", NOT_SERVING)
        await until_calls_of_a_round_are(0, client, draining)
        later = [await calls_of_a_round(client, draining) for _ in range(5)]
        pause.over.set()
        events = [event async for event in stream]

        assert later == [0] * 5
        assert isinstance(events[-1], Finished)
        draining.health.set("", SERVING)
        await until_calls_of_a_round_are(1, client, draining)


async def test_replicas_whose_model_is_not_ready_are_passed_over(replicas: tuple[FakeServer, FakeServer]) -> None:
    replicas[0].health.set("models/gpt2-124m", NOT_SERVING)
    replicas[1].health.set("models/gpt2-124m", SERVING)

    async with Client(target_of(*replicas), health_check="models/gpt2-124m") as client:
        assert [await calls_of_a_round(client, replicas[0]) for _ in range(5)] == [0] * 5


@pytest.mark.parametrize("retry", [True, False])
async def test_where_no_replica_serves_a_call_is_unavailable_and_does_not_wait_for_one(
    replicas: tuple[FakeServer, FakeServer], retry: bool
) -> None:
    for each in replicas:
        each.health.set("", NOT_SERVING)

    async with Client(target_of(*replicas), health_check="", retry=retry, timeout=LIMIT) as client:
        with pytest.raises(Unavailable, match="unhealthy"):
            await client.whoami()


async def test_a_name_for_which_the_replicas_have_no_health_counts_as_not_served(
    replicas: tuple[FakeServer, FakeServer],
) -> None:
    async with Client(target_of(*replicas), health_check="models/absent", retry=False) as client:
        with pytest.raises(Unavailable, match="unhealthy"):
            await client.whoami()


def test_the_command_line_takes_several_addresses_of_which_one_is_dead(
    replicas: tuple[FakeServer, FakeServer],
) -> None:
    with closing(socket()) as dead:
        dead.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{dead.getsockname()[1]}"

        result = sluicegate("whoami", "--target", f"ipv4:{address},{replicas[0].target}")

    assert result.exit_code == 0
    assert "alice" in result.stdout
    assert len(replicas[0].calls) == 1
