"""The callers of a chaos test: what they were sent, when, and how each call ended."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sluicegate.client import CallError, Client, Delta, GenerationConfig, Started, StreamOptions

CALL_SECONDS = 40.0
WATCHDOG_SECONDS = 60.0
"""A call whose deadline has been over for so long hangs."""
LEFT = "left"
HANGS = "hangs"
LONGEST_PAUSE_SECONDS = 1.0


@dataclass(slots=True)
class Call:
    """One stream. Times are `time.monotonic()`, those of tokens Unix times, as the store's windows are."""

    caller: str
    way: str
    began: float
    ended: float = math.inf
    request_id: str | None = None
    """None for a call that did not begin."""
    received: list[tuple[float, int]] = field(default_factory=list)
    """Output tokens by the time at which they came."""
    end: str = ""
    """OK, `left`, `hangs`, or the reason of the error, else its code; empty while it runs."""

    @property
    def tokens(self) -> int:
        return sum(count for _, count in self.received)


@dataclass(frozen=True, slots=True)
class Caller:
    """Makes streams of one model, one after the other. `way`: by what its client reaches the replicas."""

    name: str
    way: str
    client: Client
    model: str

    async def call_for_ever(self, draws: random.Random, calls: list[Call]) -> None:
        """Add a Call for each to `calls`, when it begins."""
        while True:
            call = Call(self.name, self.way, began=time.monotonic())
            calls.append(call)
            pause = draws.expovariate(2)
            tokens, leaves_after = draws.randint(1, 120), draws.choice([None] * 5 + [3])
            try:
                async with asyncio.timeout(WATCHDOG_SECONDS):
                    await self._read(call, tokens, leaves_after)
            except TimeoutError:
                call.end = HANGS
            except CallError as error:
                call.end = error.reason or f"{error.code.name} without a reason"
                pause = max(pause, error.retry_after or 0)
            call.ended = time.monotonic()
            await asyncio.sleep(min(pause, LONGEST_PAUSE_SECONDS))

    async def _read(self, call: Call, tokens: int, leaves_after: int | None) -> None:
        config = GenerationConfig(max_output_tokens=tokens, ignore_eos=True)
        options = StreamOptions(include_tokens=True)
        opened = self.client.stream(self.model, "It was", config, options=options, timeout=CALL_SECONDS)
        async with opened as stream:
            async for event in stream:
                match event:
                    case Started():
                        call.request_id = event.request_id
                    case Delta():
                        call.received.append((time.time(), len(event.tokens)))
                    case _:
                        pass
                if leaves_after is not None and len(call.received) >= leaves_after:
                    call.end = LEFT
                    return
        call.end = "OK"


def most_in_a_minute(calls: Sequence[Call], settling_seconds: float) -> int:
    """The most tokens that came in one minute of the Unix clock.

    Those of its first seconds are left out: they may have been sent, and counted, in the minute before.
    """
    minutes: dict[int, int] = {}
    for call in calls:
        for at, count in call.received:
            if at % 60 >= settling_seconds:
                minutes[int(at // 60)] = minutes.get(int(at // 60), 0) + count
    return max(minutes.values(), default=0)
