"""Loads that are put on a server: a closed loop, arrivals at random, and a long prompt among streams that run."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from bench.driving import Answer
from bench.figures import gaps, quantile
from bench.work import Request, text
from sluicegate.client import SluicegateError
from sluicegate.client.load.mix import poisson as times
from sluicegate.client.parallel import for_each

Ask = Callable[[Request, float], Awaitable[Answer]]
"""Send one request; the answer's arrivals count from the given moment (perf_counter)."""
LONG_PROMPT, LONG_OUTPUT = 900, 16
RUNNING_PROMPT = 64


@dataclass(frozen=True, slots=True)
class Latency:
    """In milliseconds, over the requests of one load: to the first token, and between tokens of a stream."""

    first_p50: float
    first_p99: float
    gap_p50: float
    gap_p99: float
    gap_longest: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one load came to."""

    tokens: int
    seconds: float
    answered: int
    cancelled: int
    failed: int
    latency: Latency

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def requests_per_second(self) -> float:
        return (self.answered + self.cancelled) / self.seconds


def latency(answers: Sequence[Answer]) -> Latency:
    """Of answers whose arrivals count from their own request. Those without a token have nothing to say."""
    arrivals = [answer.arrivals for answer in answers if answer.arrivals]
    first, between = sorted(stream[0] for stream in arrivals) or [0.0], gaps(arrivals) or [0.0]
    return Latency(
        first_p50=quantile(first, 0.5) * 1e3,
        first_p99=quantile(first, 0.99) * 1e3,
        gap_p50=quantile(between, 0.5) * 1e3,
        gap_p99=quantile(between, 0.99) * 1e3,
        gap_longest=between[-1] * 1e3,
    )


async def closed_loop(ask: Ask, work: Sequence[Request], streams: int) -> Outcome:
    """So many streams at once; each takes the next request when its last is answered."""
    answers = list[Answer]()

    async def one(request: Request) -> None:
        answers.append(await ask(request, time.perf_counter()))

    begun = time.perf_counter()
    await for_each(work, one, streams)
    tokens = sum(len(answer.ids) for answer in answers)
    return Outcome(tokens, time.perf_counter() - begun, len(answers), 0, 0, latency(answers))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that comes `at` seconds after the begin, from one of the partners; `cancel_after`: tokens, or None."""

    at: float
    partner: int
    request: Request
    cancel_after: int | None


def poisson(
    work: Sequence[Request], per_second: float, *, partners: int, cancelled_share: float, seed: int = 3
) -> list[Arrival]:
    """The work's requests at random times, `per_second` of them on average; the same for the same arguments."""
    draws, arrivals = random.Random(seed), list[Arrival]()  # noqa: S311
    for request, at in zip(work, times(per_second, seed), strict=False):
        is_cancelled = draws.random() < cancelled_share
        cancel_after = draws.randint(1, request.output) if is_cancelled else None
        arrivals.append(Arrival(at, draws.randrange(partners), request, cancel_after))
    return arrivals


Send = Callable[[Arrival, float], Awaitable[Answer]]
"""Send an arrival's request now, as its partner; as Ask."""


async def open_loop(send: Send, arrivals: Sequence[Arrival]) -> Outcome:
    """Each request at its own time, whatever became of those before it. A request that is refused counts as failed."""
    begun = time.perf_counter()
    answers, cancelled, failed = list[Answer](), 0, 0

    async def one(arrival: Arrival) -> None:
        nonlocal cancelled, failed
        await asyncio.sleep(max(begun + arrival.at - time.perf_counter(), 0))
        try:
            answers.append(await send(arrival, time.perf_counter()))
        except SluicegateError:
            failed += 1
        else:
            cancelled += arrival.cancel_after is not None

    await asyncio.gather(*(one(arrival) for arrival in arrivals))
    tokens = sum(len(answer.ids) for answer in answers)
    seconds = time.perf_counter() - begun
    return Outcome(tokens, seconds, len(answers) - cancelled, cancelled, failed, latency(answers))


@dataclass(frozen=True, slots=True)
class Stall:
    """Gaps of running streams in milliseconds, before a long prompt came and until it had its first token; and how long
    it waited for that."""

    before_p50: float
    before_longest: float
    during_p50: float
    during_longest: float
    long_first: float


async def long_prompt(ask: Ask, streams: int, output: int, turn: int) -> Stall:
    """Start the streams; when each is well under way, send the long prompt. `output`: tokens of each stream; another
    `turn` has other texts."""
    draws, begun = random.Random(turn), time.perf_counter()  # noqa: S311
    running = [asyncio.ensure_future(ask(Request(text(RUNNING_PROMPT, draws), output), begun)) for _ in range(streams)]
    try:
        # A warm-up request of half their length ends when they are half done.
        await ask(Request(text(RUNNING_PROMPT, draws), output // 2), begun)
        came = time.perf_counter() - begun
        long = await ask(Request(text(LONG_PROMPT, draws), LONG_OUTPUT), begun)
        answers = await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        for task in running:
            with suppress(asyncio.CancelledError, Exception):
                await task
    return stall([answer.arrivals for answer in answers], came, long.arrivals[0])


def stall(arrivals: Sequence[Sequence[float]], came: float, first: float) -> Stall:
    """`arrivals`: of the running streams' tokens; the long prompt came at `came` and had its first token at `first`.

    A gap counts to where it ends; one that ends after the first token but began before it is of the stall.
    """
    before, during = list[float](), list[float]()
    for stream in arrivals:
        for earlier, later in pairwise(stream):
            if later <= came:
                before.append(later - earlier)
            elif earlier < first:
                during.append(later - earlier)
    before, during = sorted(before) or [0.0], sorted(during) or [0.0]
    return Stall(
        before_p50=quantile(before, 0.5) * 1e3,
        before_longest=before[-1] * 1e3,
        during_p50=quantile(during, 0.5) * 1e3,
        during_longest=during[-1] * 1e3,
        long_first=(first - came) * 1e3,
    )
