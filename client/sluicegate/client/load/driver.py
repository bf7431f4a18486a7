"""Puts a load on a server and takes the times: closed loops, and arrivals at random moments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from sluicegate.client.errors import CallError, SluicegateError
from sluicegate.client.load.histogram import Histogram
from sluicegate.client.load.mix import Mix, Request, poisson
from sluicegate.client.load.tally import Tally, Throughput
from sluicegate.client.parallel import for_each, patiently
from sluicegate.client.results import Finished, Started
from sluicegate.client.streams import GenerationStream

REFUSED_PAUSE_SECONDS = 0.05
"""Of a closed loop's stream after a refusal: else it would ask a server that refuses at once as fast as it can."""
Open = Callable[[Request], GenerationStream]


@dataclass(frozen=True, slots=True)
class Plan:
    """When requests are sent, and until when.

    `rate`: requests per second that arrive at random (an open loop); None: each of the streams sends its next request
    when its last has ended (a closed loop). `concurrency`: the streams of a closed loop; of an open loop the most that
    run at a time, and a request that finds none free is sent later, but its times count from when it was due.
    `warm_up_seconds` go by before requests count. The run ends `seconds` after that or when so many `requests` were
    sent, whichever comes first; those under way are waited for. Both may be infinite. `max_wait_seconds`: the longest
    wait that a quota may ask for; None: a refusal is final.
    """

    concurrency: int
    rate: float | None
    warm_up_seconds: float
    seconds: float
    requests: float
    max_wait_seconds: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request and when it is due, on the run's clock. `counts`: it is not of the warm-up."""

    due: float
    request: Request
    counts: bool


@dataclass(frozen=True, slots=True)
class ServedUnder:
    """What calls ran under, as Started states it."""

    model: str
    weights_sha256: str
    stage: str
    policy_revision: str
    agreement: str | None


class Driver:
    """One run, whose time begins when it is made.

    `open_stream` gives a request's stream, which nobody has read; `clock` gives seconds that never go back.

    `tallies` (by model and caller), `throughput`, `late` and `served_under` can be read whenever `run` has ended, also
    when it was cancelled. `on_end` is called at the end of each request that counts.
    """

    def __init__(
        self,
        plan: Plan,
        mix: Mix,
        open_stream: Open,
        *,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._plan = plan
        self._mix = mix
        self._open = open_stream
        self._clock = clock
        self._sleep = sleep
        self._on_end = on_end
        self._begun = clock()
        self._opens = self._begun + plan.warm_up_seconds
        self._closes = self._opens + plan.seconds
        self._counted = 0
        self.throughput = Throughput(self._opens, self._closes)
        self.tallies = {(model, caller): Tally() for model in mix.shares for caller in range(mix.callers)}
        self.late = Histogram()
        """How much later than due a request was sent, in seconds: the client's own share of an open loop's times."""
        self.served_under = set[ServedUnder]()

    async def run(self) -> None:
        """Put the load on. Errors of calls are counted; anything else ends the run and is raised."""
        over: float | None = None
        try:
            if self._plan.rate is None:
                await for_each(self._arrivals(), self._send, self._plan.concurrency)
            else:
                await self._open_loop()
            if self._counted < self._plan.requests:
                # The time is the whole of it, also where an open loop's last request ended before.
                over = self._closes
        finally:
            self.throughput.close(self._clock() if over is None else over)

    def _arrivals(self) -> Iterator[Arrival]:
        """In order. Of a closed loop each is due when it is asked for."""
        plan = self._plan
        times = None if plan.rate is None else poisson(plan.rate, plan.seed)
        for request in self._mix.requests(plan.seed):
            due = self._clock() if times is None else self._begun + next(times)
            if due >= self._closes or self._counted >= plan.requests:
                return
            self._counted += due >= self._opens
            yield Arrival(due, request, due >= self._opens)

    async def _open_loop(self) -> None:
        """Each request when it is due, whatever became of those before it."""
        free = asyncio.Semaphore(self._plan.concurrency)

        async def one(arrival: Arrival) -> None:
            try:
                await self._send(arrival)
            finally:
                free.release()

        async with asyncio.TaskGroup() as calls:
            for arrival in self._arrivals():
                await self._sleep(max(arrival.due - self._clock(), 0.0))
                await free.acquire()
                calls.create_task(one(arrival))

    async def _send(self, arrival: Arrival) -> None:
        """One request, to whatever end."""
        tally = self.tallies[arrival.request.model, arrival.request.caller] if arrival.counts else Tally()
        tally.begun += 1
        if arrival.counts:
            self.late.record(max(self._clock() - arrival.due, 0.0))
        try:
            if self._plan.max_wait_seconds is None:
                await self._read(arrival, tally)
            else:
                await patiently(lambda: self._read(arrival, tally), self._plan.max_wait_seconds)
        except SluicegateError as error:
            tally.refused[reason(error)] += 1
            if self._plan.rate is None:
                await self._sleep(REFUSED_PAUSE_SECONDS)
        if arrival.counts:
            self._on_end()

    async def _read(self, arrival: Arrival, tally: Tally) -> None:
        """Read the stream and take its times."""
        request, tokens, first_tokens = arrival.request, 0, 0
        first = last = None
        async with self._open(request) as stream:
            async for event in stream:
                now = self._clock()
                if isinstance(event, Started):
                    self._note_start(event, tally)
                if isinstance(event, Finished):
                    tally.finish_reasons[event.finish_reason] += 1
                # By the server's count: a message may have several tokens, and the text of a token may come later.
                more = stream.usage.output_tokens - tokens
                if more > 0:
                    tokens += more
                    tally.output_tokens += more
                    self.throughput.tokens(now, more)
                    if first is None or last is None:
                        first, first_tokens = now, more
                        tally.first_token.record(now - arrival.due)
                    else:
                        tally.inter_token.record(now - last)
                    last = now
                if request.cancel_after is not None and tokens >= request.cancel_after:
                    tally.cancelled += 1
                    break
            else:
                tally.answered += 1
                tally.whole.record(self._clock() - arrival.due)
        if first is not None and last is not None and tokens > first_tokens:
            tally.per_output_token.record((last - first) / (tokens - first_tokens))
        self.throughput.request(self._clock())

    def _note_start(self, started: Started, tally: Tally) -> None:
        tally.queue.record(started.queue_seconds)
        self.served_under.add(
            ServedUnder(
                model=started.model,
                weights_sha256=started.weights_sha256,
                stage=started.stage,
                policy_revision=started.policy_revision,
                agreement=started.agreement,
            )
        )


def reason(error: SluicegateError) -> str:
    """What an error is counted as: the server's reason, or else the status, or what happened to the client."""
    return error.reason or error.code.name if isinstance(error, CallError) else type(error).__name__
