"""Workers without processes or threads: the test says how each life of an engine answers, and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from sluicegate.server.engine.client import EngineClient
from sluicegate.server.engine.errors import EngineLost
from sluicegate.server.engine.messages import (
    Command,
    Event,
    Figures,
    Load,
    Loaded,
    LoadFailed,
    Score,
    Scored,
    StepEvents,
)
from sluicegate.server.engine.supervisor import Worker

Answer = Callable[[Load], Event | None]


def loaded(load: Load) -> Event:
    """The load succeeds."""
    return Loaded(
        model=load.model,
        parameters=1,
        context_length=64,
        vocabulary_size=1_000,
        eos_token_id=0,
        weights_sha256="00",
        dtype=load.dtype,
        device=load.device,
        slots=load.slots or 1,
        cache_bytes=1,
        seconds=0.5,
    )


def failed(load: Load) -> Event:
    """The load fails."""
    return LoadFailed(model=load.model, message=f"{load.model}: no such directory")


def silent(load: Load) -> None:
    """The load never ends."""


class Life:
    """One life of an engine. `stops`: the limits that it was given to end; `sent`: what it was asked.

    `answer`: what becomes of a load. Clear `may_stop` to hold its end. `fault`: what its end raises.
    """

    def __init__(self, answer: Answer, on_figures: Callable[[Figures], None] | None) -> None:
        self.answer = answer
        self._decoder = msgspec.msgpack.Decoder(Command)
        self._client = EngineClient(self._take, on_figures)
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self.fault: Exception | None = None
        self.stops: list[float] = []
        self.sent: list[Command] = []

    @property
    def client(self) -> EngineClient:
        return self._client

    def die(self) -> None:
        """As if its process had been killed."""
        self._client.lose(EngineLost("it was killed"))

    def tell(self, event: Event) -> None:
        """Let the front end hear an event."""
        self._client.deliver(msgspec.msgpack.encode(StepEvents([event])))

    async def ended(self) -> None:
        await self._client.lost()

    async def stop(self, limit_seconds: float) -> None:
        """Ends, and is cancelled only after that, as a real worker."""
        self.stops.append(limit_seconds)
        cancel: asyncio.CancelledError | None = None
        while not self.may_stop.is_set():
            try:
                await self.may_stop.wait()
            except asyncio.CancelledError as error:
                cancel = error
        self._client.lose(EngineLost("it was stopped"))
        if self.fault is not None:
            raise self.fault
        if cancel is not None:
            raise cancel

    def _take(self, data: bytes) -> None:
        command = self._decoder.decode(data)
        self.sent.append(command)
        event: Event | None = None
        if isinstance(command, Load):
            event = self.answer(command)
        if isinstance(command, Score):
            event = Scored(request=command.request, logprobs=[-0.5], top=[()])
        if event is not None:
            asyncio.get_running_loop().call_soon(self.tell, event)


class Lives:
    """A launcher of lives. The first answers by the first of `answers`, and so on; the last stays.

    `errors`: what the next launches raise.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers or [loaded])
        self.errors: list[Exception] = []
        self.all: list[Life] = []

    @property
    def last(self) -> Life:
        """The life that began last."""
        return self.all[-1]

    async def launch(self, on_figures: Callable[[Figures], None] | None) -> Worker:
        if self.errors:
            raise self.errors.pop(0)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.all.append(Life(answer, on_figures))
        return self.last


async def settle() -> None:
    """Let all that can go on without time go on."""
    for _ in range(50):
        await asyncio.sleep(0)
