"""The front end's view of one engine: requests go out, each gets its events back as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import msgspec
import structlog

from sluicegate.server.engine.errors import EngineLost, EngineUnavailable, ModelLoadError
from sluicegate.server.engine.messages import (
    LARGEST_COMMAND_BYTES,
    Abort,
    Command,
    Event,
    Figures,
    Finished,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Refused,
    Score,
    Scored,
    Started,
    StepEvents,
    Stop,
    Submit,
    Token,
    Unload,
    read,
)

log = structlog.get_logger()

StreamEvent = Started | Token | Finished | Scored | Refused


class EngineStream:
    """One request's events. Read by one task; `close` it, or use it as a context, whatever happens."""

    def __init__(self, client: EngineClient, message: Submit | Score) -> None:
        self.request = message.request
        self._client = client
        self._open = set(range(message.candidates if isinstance(message, Submit) else 1))
        self._pending: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None
        self._lost: EngineLost | None = None

    @property
    def is_over(self) -> bool:
        """Whether the request has ended, or was closed. Events may still wait to be read."""
        return not self._open

    async def next(self) -> list[Event]:
        """All events that have piled up since the last call; waits for the first. Empty: no more will come.

        Raises EngineLost, after what had arrived was read. Cancelling loses no event.
        """
        while not self._pending and self._open:
            if self._lost is not None:
                raise self._lost
            assert self._waiter is None, "a stream has one reader"
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        events, self._pending = self._pending, []
        return events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Event]:
        if events := await self.next():
            return events
        raise StopAsyncIteration

    def abort(self, candidate: int | None = None) -> None:
        """Ask for the end of the request or of one candidate; it comes as Finished. Too late is no error."""
        if self._lost is None and (self._open if candidate is None else candidate in self._open):
            self._client.send(Abort(request=self.request, candidate=candidate))

    async def close(self) -> None:
        """Abort what still runs and drop what was not read. Never waits; a second call does nothing."""
        self.abort()
        self._client.forget(self)
        self._open.clear()
        self._pending.clear()
        self._wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def take(self, event: StreamEvent) -> None:
        """For the client: add an event of this request, and wake the reader."""
        self._pending.append(event)
        match event:
            case Token() | Started():
                pass
            case Finished():
                self._open.discard(event.candidate)
            case Scored() | Refused():
                self._open.clear()
        self._wake()

    def lose(self, error: EngineLost) -> None:
        """For the client: the engine is gone."""
        self._lost = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class EngineClient:
    """Speaks to one engine over `send`; its messages come in through `deliver`. Event loop only.

    A step's events arrive as one message, so the event loop wakes once a step for all streams together.
    """

    def __init__(self, send: Callable[[bytes], None], on_figures: Callable[[Figures], None] | None = None) -> None:
        self._send = send
        self._on_figures = on_figures
        self._streams: dict[str, EngineStream] = {}
        self._loads: dict[str, asyncio.Future[Loaded]] = {}
        self._given_up: set[str] = set()  # models whose load goes on, though nobody waits for it
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._pinged = 0
        self._pinged_before_load = 0
        self._answers_while_loading = False
        self._loss: EngineLost | None = None
        self._lost = asyncio.Event()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(StepEvents)
        self.figures: dict[str, Figures] = {}  # the last of each model
        self.delivered = 0  # messages so far: a number that grows while the engine lives

    async def lost(self) -> None:
        """Return when the engine is gone."""
        await self._lost.wait()

    @property
    def may_be_silent(self) -> bool:
        """Whether a load is under way in which the engine answers nothing else, for all that it has shown so far."""
        return bool(self._loads) and not self._answers_while_loading

    async def submit(self, message: Submit) -> EngineStream:
        """Start a generation. Raises EngineUnavailable if the engine is gone, ValueError if the request is live."""
        return self._begin(message)

    async def score(
        self, message: Score, *, on_started: Callable[[], None] | None = None
    ) -> Scored | Finished | Refused:
        """Score a text: the request's last event. Cancelling aborts. Raises EngineUnavailable, EngineLost.

        `on_started` hears when it holds its slot.
        """
        async with self._begin(message) as stream:
            async for events in stream:
                for event in events:
                    if isinstance(event, Scored | Finished | Refused):
                        return event
                    if on_started is not None:
                        on_started()
        raise AssertionError("a score's last event is its answer")

    async def load(self, message: Load) -> Loaded:
        """Load a model. Raises ModelLoadError with what to do about it, EngineLost if the engine died.

        One load of a model at a time, else ValueError. Cancelling ends the wait, not the load: what it gives is
        unloaded, and until then there is no other, which its answer could be taken for.
        """
        if message.model in self._loads:
            raise ValueError(f"a load of {message.model} is under way")
        if message.model in self._given_up:
            raise ModelLoadError(f"{message.model}: an earlier load that was given up is not over yet; try again later")
        if self._loss is not None:
            raise self._loss
        self.send(message)
        self._pinged_before_load, self._answers_while_loading = self._pinged, False
        future: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        self._loads[message.model] = future
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._given_up.add(message.model)
            elif future.exception() is None:  # it was answered in the same moment
                self._drop(message.model)
            raise
        finally:
            del self._loads[message.model]

    async def unload(self, model: str) -> None:
        """Drop a model; its requests finish as ABORTED. Raises EngineUnavailable, EngineLost."""
        self.send(Unload(model=model))
        await self.ping()
        self.figures.pop(model, None)

    def ping(self) -> asyncio.Future[None]:
        """Ask for a sign of life; the future is done when it comes. Raises EngineUnavailable if the engine is gone."""
        self._pinged += 1
        self.send(Ping(number=self._pinged))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pings[self._pinged] = future
        return future

    def stop(self) -> None:
        """Ask the engine to end after the step in progress; also one that is lost, for it may still run."""
        self._send(self._encoder.encode(Stop()))

    def send(self, command: Command) -> None:
        """Send a command. Raises EngineUnavailable if the engine is gone."""
        self._send(self._encode(command))

    def forget(self, stream: EngineStream) -> None:
        """For streams: drop this one's further events."""
        if self._streams.get(stream.request) is stream:
            del self._streams[stream.request]

    def deliver(self, data: bytes) -> None:
        """Take one message of the engine. One that cannot be read may hold a stream's end: the engine is lost then."""
        if self._loss is not None:
            return
        self.delivered += 1
        try:
            step = read(self._decoder, data)
        except msgspec.DecodeError as error:
            log.error("engine_message_unreadable", bytes=len(data), error=type(error).__name__)
            self.lose(EngineLost("the engine sent what is no message"))
            return
        for event in step.events:
            self._take(event)

    def lose(self, error: EngineLost) -> None:
        """The engine is gone: open streams, loads and pings end with this error. Only the first call counts."""
        if self._loss is not None:
            return
        self._loss = error
        self._lost.set()
        for stream in self._streams.values():
            stream.lose(error)
        self._streams.clear()
        for load in self._loads.values():
            _give_up(load, error)
        for ping in self._pings.values():
            _give_up(ping, error)
        self._pings.clear()

    def _begin(self, message: Submit | Score) -> EngineStream:
        if message.request in self._streams:
            raise ValueError(f"request {message.request} is live already")
        data = self._encode(message)
        stream = EngineStream(self, message)
        if len(data) > LARGEST_COMMAND_BYTES:  # ZeroMQ would cut the connection, and with it all other streams
            stream.take(Refused(request=message.request, cause="message: larger than an engine takes"))
            return stream
        self._send(data)
        self._streams[message.request] = stream
        return stream

    def _encode(self, command: Command) -> bytes:
        if self._loss is not None:
            raise EngineUnavailable("the engine is gone")
        return self._encoder.encode(command)

    def _take(self, event: Event) -> None:
        match event:
            case Token() | Started() | Finished() | Scored() | Refused():
                stream = self._streams.get(event.request)
                if stream is not None:  # else it was closed, and the abort crossed this event
                    stream.take(event)
                    if stream.is_over:
                        del self._streams[event.request]
            case Figures():
                self.figures[event.model] = event
                if self._on_figures is not None:
                    self._on_figures(event)
            case Loaded() | LoadFailed():
                self._answer_load(event)
            case Pong():
                if self._loads and event.number > self._pinged_before_load:
                    self._answers_while_loading = True
                pinged = self._pings.pop(event.number, None)
                if pinged is not None and not pinged.done():
                    pinged.set_result(None)

    def _drop(self, model: str) -> None:
        """Have a model unloaded that was loaded for nobody."""
        with suppress(EngineUnavailable):
            self.send(Unload(model=model))

    def _answer_load(self, event: Loaded | LoadFailed) -> None:
        if event.model in self._given_up:
            self._given_up.discard(event.model)
            if isinstance(event, Loaded):
                self._drop(event.model)
            return
        future = self._loads.get(event.model)
        if future is None or future.done():
            return
        if isinstance(event, Loaded):
            future.set_result(event)
        else:
            future.set_exception(ModelLoadError(event.message))


def _give_up(future: asyncio.Future[Loaded] | asyncio.Future[None], error: EngineLost) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # marks it as seen: nobody has to wait for a ping
