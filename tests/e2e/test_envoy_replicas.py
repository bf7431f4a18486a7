"""Real replicas that share a Redis, behind Envoy: one drains, one is killed, one has a reader that does not read."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from deployment import Deployment, Hosted
from envoy_proxy import Envoy, configuration, envoy
from reading import Read, start_reading
from real_server import RealServer, replicas, until, wait_for
from redis_server import redis_server
from slow_model import TOKENS, write_slow_model

from sluicegate.client import Client, FinishReason, ServerFault
from sluicegate.v1 import generation_service_pb2_grpc
from sluicegate.v1.generation_pb2 import GenerationConfig, StreamOptions
from sluicegate.v1.generation_service_pb2 import StreamGenerateRequest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SLOTS = 4
STALLED_SECONDS = 1.0
BRIEF = 50


@dataclass(frozen=True, slots=True)
class Site:
    """Two replicas and Envoy before them."""

    servers: list[RealServer]
    proxy: Envoy

    def client(self) -> Client:
        """One that repeats nothing: what is repeated, Envoy does."""
        return Client(self.proxy.address, token=self.servers[0].token(), retry=False)

    def running(self) -> list[float]:
        """Streams of each replica."""
        return [server.metric("sluicegate_streams_active") for server in self.servers if server.is_running]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    models = {"slow": Hosted(directory=write_slow_model(tmp_path / "slow"), slots=SLOTS)}
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as redis:
        deployment = Deployment(
            tmp_path / "files",
            models,
            state={"url": redis.url()},
            drain={"announce_seconds": 5, "grace_seconds": 200},
            limits={"stalled_reader_seconds": STALLED_SECONDS, "peer_calls_per_minute": 1_000_000},
        )
        with replicas(deployment, 2) as servers:
            addresses = [server.address for server in servers]
            with envoy(tmp_path, configuration(addresses)) as proxy:
                proxy.wait_for_healthy(addresses)
                yield Site(servers, proxy)


async def begun(client: Client, count: int, *, tokens: int = TOKENS) -> list[Read]:
    """So many streams, each begun before the next."""
    reads = []
    for seed in range(count):
        reads.append(start_reading(client, "slow", tokens=tokens, seed=seed))
        await reads[-1].begun.wait()
    return reads


async def test_a_replica_that_drains_fails_no_call_and_cuts_no_stream(site: Site) -> None:
    draining, staying = site.servers
    async with site.client() as client:
        running = await begun(client, 4, tokens=1_500)
        on_draining = draining.metric("sluicegate_streams_active")

        draining.signal(signal.SIGTERM)
        later = []
        while draining.address in await asyncio.to_thread(site.proxy.healthy):
            later += await begun(client, 1, tokens=BRIEF)
        later += await begun(client, 4, tokens=BRIEF)
        await asyncio.gather(*(read.ended() for read in running + later))

        status = await asyncio.to_thread(draining.wait)
    assert on_draining > 0
    assert [read.error for read in running + later] == [None] * (4 + len(later))
    assert {finish for read in running + later for finish in read.finishes} == {FinishReason.MAX_OUTPUT_TOKENS}
    assert status == 0
    assert staying.is_running


async def test_a_replica_that_is_killed_takes_only_its_own_streams_with_it(site: Site) -> None:
    killed, staying = site.servers
    async with site.client() as client:
        running = await begun(client, 4, tokens=1_500)
        lost = int(killed.metric("sluicegate_streams_active"))

        killed.signal(signal.SIGKILL)
        await asyncio.to_thread(killed.wait)
        later = await begun(client, 4, tokens=BRIEF)
        await asyncio.gather(*(read.ended() for read in running + later))

    errors = [read.error for read in running if read.error is not None]
    assert 0 < lost < 4
    assert len(errors) == lost
    # INTERNAL, since Envoy resets the stream: without it, it would be UNAVAILABLE.
    assert all(isinstance(error, ServerFault) for error in errors)
    assert [len(read.tokens) for read in running if read.error is None] == [1_500] * (4 - lost)
    assert [read.error for read in later] == [None] * 4
    await until("out", lambda: site.proxy.healthy() == {staying.address})


def test_a_reader_that_does_not_read_is_noticed_by_its_replica(site: Site) -> None:
    """Envoy holds too little for the server to believe that somebody reads."""
    request = StreamGenerateRequest(
        model="slow",
        text="It was",
        config=GenerationConfig(max_output_tokens=TOKENS, candidate_count=SLOTS, ignore_eos=True),
        stream_options=StreamOptions(include_tokens=True),
    )
    metadata = (("authorization", f"Bearer {site.servers[0].token()}"),)
    unread = [("grpc.http2.lookahead_bytes", 1_024), ("grpc.http2.bdp_probe", 0)]

    with grpc.insecure_channel(site.proxy.address, unread) as channel:
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        stream = stub.StreamGenerate(request, metadata=metadata, timeout=200)
        next(stream)

        wait_for(
            "the reader noticed",
            lambda: any(
                entry["reason"] == "READER_STALLED" for server in site.servers for entry in server.events("call")
            ),
        )
