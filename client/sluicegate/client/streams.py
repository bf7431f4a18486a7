"""Streams that callers iterate over: generated events, and changes of models."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from sluicegate.client import wire
from sluicegate.client.calls import Reading
from sluicegate.client.errors import CallError
from sluicegate.client.results import Event, Model, Started, Usage
from sluicegate.v1.generation_service_pb2 import StreamGenerateRequest, StreamGenerateResponse
from sluicegate.v1.model_service_pb2 import WatchModelsRequest, WatchModelsResponse


class GenerationStream:
    """The events of one generation: Started, then Delta as text comes, then Finished for each candidate.

    The call begins with the first read. Leaving the context ends it, on both sides. `usage` and `started`
    can be read at any time, also after an error. One task reads.
    """

    def __init__(self, reading: Reading[StreamGenerateRequest, StreamGenerateResponse]) -> None:
        self._reading = reading
        self._started: Started | None = None
        self._usage = Usage(prompt_tokens=0, output_tokens=0)

    @property
    def started(self) -> Started | None:
        """What the call runs under; None before the first event."""
        return self._started

    @property
    def usage(self) -> Usage:
        """Tokens counted for the caller so far; exact once the stream has ended with a status."""
        return self._usage

    def cancel(self) -> None:
        """End the call. A later read raises Cancelled. Nothing if the stream is over."""
        self._reading.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Raises CallError with `usage` set, and TokenUnavailable."""
        try:
            while (message := await self._reading.read()) is not None:
                if message.HasField("usage"):
                    self._usage = wire.usage(message.usage)
                event = wire.event(message)
                if isinstance(event, Started):
                    self._started = event
                if event is not None:
                    return event
        except CallError as error:
            self._usage = error.usage = error.usage or self._usage
            error.request_id = error.request_id or (self._started.request_id if self._started else None)
            raise
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.close()


class ModelWatch:
    """The models that the caller may know of: now, and again at each change. Leaving the context ends it."""

    def __init__(self, reading: Reading[WatchModelsRequest, WatchModelsResponse]) -> None:
        self._reading = reading

    def cancel(self) -> None:
        """End the call. A later read raises Cancelled."""
        self._reading.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Model, ...]:
        """Raises CallError and TokenUnavailable."""
        message = await self._reading.read()
        if message is None:
            raise StopAsyncIteration
        return wire.models(message.models)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.close()
