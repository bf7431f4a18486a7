"""Streams whose messages come after known times, on a clock of their own that only these times move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from sluicegate.client.errors import SluicegateError
from sluicegate.client.load.mix import Request
from sluicegate.client.streams import GenerationStream
from sluicegate.v1.generation_service_pb2 import StreamGenerateResponse

Step = tuple[float, StreamGenerateResponse | SluicegateError]
"""Seconds that go by, and what then comes."""


class VirtualTime:
    """A clock, and a sleep on it: time goes to the next sleeper's moment when every task waits."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._asked = 0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._asked += 1
        self._sleepers.append((self.now + seconds, self._asked, woken))
        await woken

    async def pass_for(self, work: asyncio.Task[None]) -> None:
        """Let time go by until the work is done."""
        while not work.done():
            for _ in range(20):
                # Whoever was woken gets to its next sleep.
                await asyncio.sleep(0)
            if self._sleepers:
                self._sleepers.sort(key=lambda each: each[:2])
                at, _, woken = self._sleepers.pop(0)
                self.now = max(self.now, at)
                if not woken.done():
                    woken.set_result(None)
        await work


class Script:
    """Gives each request in turn its stream; the last script is for all that follow. `requests`: when, and what."""

    def __init__(self, time: VirtualTime, *streams: Sequence[Step]) -> None:
        self._time = time
        self._streams = streams
        self.requests: list[tuple[float, Request]] = []
        self.at_once = 0
        self.most_at_once = 0

    def __call__(self, request: Request) -> GenerationStream:
        steps = self._streams[min(len(self.requests), len(self._streams) - 1)]
        self.requests.append((self._time.now, request))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        return GenerationStream(cast("Any", _Reading(self._time, steps, self._over)))

    def _over(self) -> None:
        self.at_once -= 1


class _Reading:
    """As calls.Reading: read until None, and close."""

    def __init__(self, time: VirtualTime, steps: Sequence[Step], on_close: Callable[[], None]) -> None:
        self._time = time
        self._steps = iter(steps)
        self._on_close = on_close

    async def read(self) -> StreamGenerateResponse | None:
        step = next(self._steps, None)
        if step is None:
            return None
        seconds, message = step
        await self._time.sleep(seconds)
        if isinstance(message, SluicegateError):
            raise message
        return message

    def close(self) -> None:
        self._on_close()
