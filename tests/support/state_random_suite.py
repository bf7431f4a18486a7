"""The quota invariant over random interleavings. Imported whole by the modules that have a fixture `fresh_url`.

In every minute and every day, over all replicas, crashes included: tokens emitted ≤ limit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from state_replicas import LAB, LEASE_SECONDS, NEW_YORK, FreshUrl, Replicas, sharing, unix

from sluicegate.auth import Quotas
from sluicegate.server.state import Quota, Reservation, Store, Wanted

LIMITS = Quotas(concurrent_streams=3, requests_per_minute=8, output_tokens_per_minute=100, output_tokens_per_day=150)
REPLICAS = 3


@dataclass(slots=True)
class Stream:
    """One running stream: its replica may emit until `ends`, a lease after it last heard from the store."""

    reservation: Reservation
    replica: int
    ends: float
    emitted: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """Each of these replicas starts a stream, all at the same moment."""

    replicas: Sequence[int]
    tokens: int


@dataclass(frozen=True, slots=True)
class Emit:
    """Every running stream emits up to so many tokens."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Beat:
    """One replica renews its streams."""

    replica: int


@dataclass(frozen=True, slots=True)
class End:
    """The oldest streams settle; some say it twice."""

    count: int
    twice: bool


@dataclass(frozen=True, slots=True)
class Crash:
    """One replica dies with its streams unsettled, and comes back."""

    replica: int


@dataclass(frozen=True, slots=True)
class Pass:
    """So many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class PassTo:
    """Time passes until just before the end of the minute."""


Step = Start | Emit | Beat | End | Crash | Pass | PassTo

# What stands here twice comes twice as often: streams are greedy and time is slow, so that limits are reached.
STEPS: list[Step] = [
    *[Start([replica], 120) for replica in range(REPLICAS)] * 2,
    *[Start([replica], tokens) for replica in range(REPLICAS) for tokens in (1, 40)],
    Start([0, 1], 60),
    Start([0, 1, 2, 2], 50),
    *[Emit(200)] * 6,
    *[Emit(20)] * 3,
    Emit(1),
    *[Beat(replica) for replica in range(REPLICAS)] * 2,
    *[End(1, twice=False)] * 3,
    End(1, twice=True),
    End(3, twice=False),
    *[Crash(replica) for replica in range(REPLICAS)],
    *[PassTo()] * 2,
    *[Pass(0.001)] * 2,
    Pass(5),
    *[Pass(LEASE_SECONDS)] * 2,
    Pass(LEASE_SECONDS - 0.001),
    Pass(61),
]
steps = st.lists(st.sampled_from(STEPS), min_size=40, max_size=60)
# Just before midnight in New York: of an ordinary day, and of the days before and on which the clocks change.
moments = st.sampled_from(
    ["2026-02-03T04:58:30", "2026-03-08T04:59:10", "2026-03-09T03:59:10", "2026-11-01T03:59:10", "2026-11-02T04:59:10"]
)


class World:
    """Replicas, what they stream, and what was really emitted and admitted in each window."""

    def __init__(self, replicas: Replicas, stores: list[Store]) -> None:
        self.streams: list[Stream] = []
        self._replicas = replicas
        self._clock = replicas.clock
        self._stores = stores
        self._emitted: Counter[object] = Counter()
        self._admitted: Counter[object] = Counter()

    async def take(self, step: Step) -> None:
        match step:
            case Start(replicas, tokens):
                await self._start(replicas, tokens)
            case Emit(tokens):
                for stream in self.streams:
                    self._emit(stream, tokens)
            case Beat(replica):
                await self._beat(replica)
            case End(count, twice):
                for stream in self.streams[:count]:
                    await self._settle(stream)
                    if twice:
                        await self._settle(stream)
                del self.streams[:count]
            case Crash(replica):
                self.streams = [stream for stream in self.streams if stream.replica != replica]
                await self._stores[replica].close()
                self._stores[replica] = await self._replicas.open()
            case Pass(seconds):
                self._clock.now += seconds
            case PassTo():
                self._clock.now += 59.999 - self._clock.now % 60 if self._clock.now % 60 < 59 else 0.001
        self._check()

    async def _start(self, replicas: Sequence[int], tokens: int) -> None:
        wanted = Wanted(output_tokens=tokens)
        outcomes = await asyncio.gather(*(self._stores[replica].reserve(LAB, LIMITS, wanted) for replica in replicas))
        for replica, outcome in zip(replicas, outcomes, strict=True):
            if isinstance(outcome, Reservation):
                self.streams.append(Stream(outcome, replica, self._clock.now + LEASE_SECONDS))
                self._admitted[self._minute()] += 1

    def _emit(self, stream: Stream, tokens: int) -> None:
        if self._clock.now < stream.ends:
            tokens = min(tokens, stream.reservation.output_tokens - stream.emitted)
            stream.emitted += tokens
            self._emitted[self._minute()] += tokens
            self._emitted[self._day()] += tokens

    async def _beat(self, replica: int) -> None:
        own = {stream.reservation: stream for stream in self.streams if stream.replica == replica}
        lapsed = await self._stores[replica].renew({key: stream.emitted for key, stream in own.items()})
        for reservation, stream in own.items():
            assert (reservation in lapsed) == (self._clock.now >= stream.ends)
            stream.ends = self._clock.now + LEASE_SECONDS
        self.streams = [stream for stream in self.streams if stream.reservation not in lapsed]

    async def _settle(self, stream: Stream) -> None:
        await self._stores[stream.replica].settle(stream.reservation, emitted=stream.emitted)

    def _check(self) -> None:
        running = sum(self._clock.now < stream.ends for stream in self.streams)
        assert running <= (LIMITS.concurrent_streams or 0)
        assert self._admitted[self._minute()] <= (LIMITS.requests_per_minute or 0)
        assert self._emitted[self._minute()] <= (LIMITS.output_tokens_per_minute or 0)
        assert self._emitted[self._day()] <= (LIMITS.output_tokens_per_day or 0)

    def _minute(self) -> object:
        return int(self._clock.now // 60)

    def _day(self) -> object:
        return datetime.fromtimestamp(self._clock.now, NEW_YORK).date()


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(start=moments, schedule=steps)
def test_no_window_sees_more_than_its_limit_whatever_the_replicas_do(
    fresh_url: FreshUrl, start: str, schedule: list[Step]
) -> None:
    async def run() -> None:
        async with sharing(fresh_url()) as replicas:
            replicas.clock.now = unix(start)
            world = World(replicas, [await replicas.open() for _ in range(REPLICAS)])
            for step in schedule:
                await world.take(step)
            await world.take(End(len(world.streams), twice=True))
            replicas.clock.now += 2 * 86_400

            store = await replicas.open()
            all_there_is = await store.reserve(LAB, LIMITS, Wanted(output_tokens=1000))

            assert isinstance(all_there_is, Reservation)
            assert all_there_is.output_tokens == LIMITS.output_tokens_per_minute
            assert {usage.quota: usage.used for usage in await store.usage(LAB, LIMITS)} == {
                Quota.CONCURRENT_STREAMS: 1,
                Quota.REQUESTS_PER_MINUTE: 1,
                Quota.OUTPUT_TOKENS_PER_MINUTE: 100,
                Quota.OUTPUT_TOKENS_PER_DAY: 100,
            }

    asyncio.run(run())
