"""What befalls a site under chaos, and how long each replica needs to serve again."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, cast

import grpc
import pytest
from chaos_site import PARTNER_MODEL, REPLICAS, STALLED_READER_SECONDS, STEP_SECONDS, Site, ask_for_a_token, reason_of
from fleet import Replica
from harness import connected
from real_server import until

from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import StreamGenerateRequest
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub

if TYPE_CHECKING:
    from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub

PROBE_SECONDS = 0.2
RECOVERED_WITHIN_SECONDS = 120.0
HUNG_READERS = 4
UNREAD = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 5)]
"""A reader whose connection takes less than a message."""


class Kind(StrEnum):
    """A fault, as figures name it."""

    REPLICA_KILLED = "replica killed (-9)"
    ENGINE_KILLED = "engine killed (-9)"
    ROLLED_OUT = "replica rolled out (SIGTERM)"
    READERS_HUNG = "readers hung"
    CLOCK_STEPPED = "clock stepped"
    REDIS_KILLED = "Redis killed (-9)"
    ONE_CUT_OFF = "one replica cut off from Redis"
    ALL_CUT_OFF = "all replicas cut off from Redis"


@dataclass(slots=True)
class Fault:
    """One fault. Times are `time.monotonic()`. `hits`: the replicas whose calls it may end."""

    kind: Kind
    hits: frozenset[str]
    began: float
    mended: float = math.inf
    """When what was cut or stopped was there again; for what restarts by itself, when the fault began."""
    ended: float = math.inf
    recovered: dict[str, float] = field(default_factory=dict)
    """When each replica answered for the first time after it was mended."""


class Probe:
    """Asks one replica again and again, by a connection of its own each time, for a token of the partners' model."""

    def __init__(self, replica: Replica, token: Callable[[], str]) -> None:
        self.answered: list[tuple[float, float]] = []
        """When each call that was answered began and ended."""
        self._replica = replica
        self._token = token
        self._has_answered = asyncio.Condition()

    async def ask_for_ever(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await ask_for_a_token(self._replica, PARTNER_MODEL, self._token())
            except grpc.aio.AioRpcError:
                pass
            else:
                async with self._has_answered:
                    self.answered.append((began, time.monotonic()))
                    self._has_answered.notify_all()
            await asyncio.sleep(PROBE_SECONDS)

    async def answer_after(self, moment: float) -> float:
        """When the first call that began after a moment was answered."""
        async with asyncio.timeout(RECOVERED_WITHIN_SECONDS), self._has_answered:
            await self._has_answered.wait_for(lambda: self.answered and self.answered[-1][0] > moment)
        return next(ended for began, ended in self.answered if began > moment)


class Chaos:
    """Lets faults befall a site, drawn at random, in two lanes that do not wait for each other."""

    def __init__(
        self, site: Site, draws: random.Random, prober: str, before_redis_dies: Callable[[], Awaitable[None]]
    ) -> None:
        self.faults: list[Fault] = []
        self.probes = {each.name: Probe(each, lambda: site.token(prober)) for each in site.replicas}
        self._site = site
        self._draws = draws
        self._prober = prober
        self._before_redis_dies = before_redis_dies

    async def befall_replicas(self, end: float) -> None:
        """One fault of a replica after the other, of all kinds in turn, until a time of the loop. All are over then."""
        of_a_replica = (self.kill_replica, self.kill_engine, self.roll_out, self.hang_readers, self.step_clock)
        while time.monotonic() < end:
            for fault in self._draws.sample(of_a_replica, k=len(of_a_replica)):
                await asyncio.sleep(self._draws.uniform(1, 5))
                await fault(self._draws.randrange(REPLICAS))

    async def befall_redis(self, end: float) -> None:
        """The same with faults of the store."""
        of_the_store = (self.kill_redis, self.cut_off_one, self.cut_off_all)
        while time.monotonic() < end:
            for fault in self._draws.sample(of_the_store, k=len(of_the_store)):
                await asyncio.sleep(self._draws.uniform(5, 15))
                await fault()

    async def kill_replica(self, number: int) -> None:
        replica = self._site.replicas[number]
        async with self._fault(Kind.REPLICA_KILLED, [replica]):
            replica.server.signal(signal.SIGKILL)

    async def kill_engine(self, number: int) -> None:
        replica = self._site.replicas[number]
        async with self._fault(Kind.ENGINE_KILLED, [replica]):
            for pid in replica.server.engine_pids():
                os.kill(pid, signal.SIGKILL)

    async def roll_out(self, number: int) -> None:
        replica, life = self._site.replicas[number], self._site.replicas[number].server
        async with self._fault(Kind.ROLLED_OUT, [replica]) as fault:
            life.signal(signal.SIGTERM)
            await until("it has drained", lambda: not life.is_running)
            assert life.wait() == 0
            fault.mended = time.monotonic()

    async def hang_readers(self, number: int) -> None:
        """They are cut, and nobody else is touched."""
        replica = self._site.replicas[number]
        async with self._fault(Kind.READERS_HUNG, []):
            await asyncio.gather(*(self._hang(replica) for _ in range(HUNG_READERS)))

    async def _hang(self, replica: Replica) -> None:
        config = GenerationConfig(max_output_tokens=900, ignore_eos=True)
        request = StreamGenerateRequest(model=PARTNER_MODEL, text="It was", config=config)
        metadata = (("authorization", f"Bearer {self._site.token(self._prober)}"),)
        async with connected(replica.address, options=UNREAD) as channel:
            stub = cast("GenerationServiceAsyncStub", GenerationServiceStub(channel))
            call = stub.StreamGenerate(request, metadata=metadata, timeout=60)
            await asyncio.sleep(2 * STALLED_READER_SECONDS)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                _ = [message async for message in call]
        # The lot of the others whose replica is hit by another fault beside this one, too.
        assert reason_of(caught.value) == "READER_STALLED" or caught.value.code() is grpc.StatusCode.UNAVAILABLE

    async def step_clock(self, number: int) -> None:
        """Forth or back, and right again. Nothing is to come of it."""
        async with self._fault(Kind.CLOCK_STEPPED, []):
            self._site.clocks[number].set_ahead(self._draws.choice([STEP_SECONDS, -STEP_SECONDS]))
            await asyncio.sleep(self._draws.uniform(3, 6))
            self._site.clocks[number].set_ahead(0)

    async def kill_redis(self) -> None:
        await self._before_redis_dies()
        async with self._fault(Kind.REDIS_KILLED, self._site.replicas) as fault:
            self._site.redis.kill()
            await asyncio.sleep(self._draws.uniform(0, 9))
            fault.mended = time.monotonic()
            await asyncio.to_thread(self._site.redis.start)

    async def cut_off_one(self) -> None:
        await self._cut_off([self._draws.randrange(REPLICAS)], Kind.ONE_CUT_OFF)

    async def cut_off_all(self) -> None:
        await self._cut_off(range(REPLICAS), Kind.ALL_CUT_OFF)

    async def _cut_off(self, numbers: Iterable[int], kind: Kind) -> None:
        links = list(numbers)
        async with self._fault(kind, [self._site.replicas[number] for number in links]) as fault:
            self._site.cables.cut(links)
            await asyncio.sleep(self._draws.uniform(2, 12))
            self._site.cables.mend(links)
            fault.mended = time.monotonic()

    @asynccontextmanager
    async def _fault(self, kind: Kind, replicas: Iterable[Replica]) -> AsyncIterator[Fault]:
        """Write a fault down, and wait at its end until all that it hits answer again."""
        names = [each.name for each in replicas]
        fault = Fault(kind, frozenset(names), began=time.monotonic())
        self.faults.append(fault)
        yield fault
        if math.isinf(fault.mended):
            fault.mended = fault.began
        for name in names:
            fault.recovered[name] = await self.probes[name].answer_after(fault.mended)
        fault.ended = time.monotonic()
