"""The calls under way, each with its grant: the place from which they can be ended before their time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

from sluicegate.auth import Grant, Reason
from sluicegate.server.caller import Call
from sluicegate.server.errors import CallRefused
from sluicegate.server.output import Usage

STALLED_SECONDS = 1.0
"""A reader that takes nothing for this long is told of as stalled; every write waits for it a little."""


class CallState(Enum):
    """Where a call is."""

    QUEUED = auto()
    """It has no slots yet."""
    RUNNING = auto()
    """It is worked on."""
    STALLED = auto()
    """It is worked on, and its reader takes nothing."""


class LiveCall:
    """One call under way, in the task that made it.

    Who works on it says how far it is: `start`, and `writing_since`, the event loop's time at which a write to its
    reader began, None between writes.
    """

    def __init__(self, call: Call, grant: Grant, usage: Usage) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.call = call
        self.grant = grant
        self.usage = usage
        self._has_started = False
        self.writing_since: float | None = None
        self.over = asyncio.Event()
        self._task = task
        self.refusal: CallRefused | None = None

    @property
    def id(self) -> str:
        """The request id."""
        return self.call.request_id

    def start(self) -> None:
        """It waits no longer: from now on it is worked on."""
        self._has_started = True

    def state(self, now: float) -> CallState:
        """Where it is, at this time of the event loop."""
        if not self._has_started:
            return CallState.QUEUED
        is_stalled = self.writing_since is not None and now - self.writing_since >= STALLED_SECONDS
        return CallState.STALLED if is_stalled else CallState.RUNNING

    def end(self, refusal: CallRefused) -> None:
        """End it wherever it waits: for a slot, for a token, or for its reader. The first refusal counts.

        What is over is left alone: its task answers its caller, and nobody would turn the cancellation into a status.
        """
        if self.refusal is None and not self.over.is_set():
            self.refusal = refusal
            self._task.cancel()


class LiveCalls:
    """All calls that an engine works for, queued ones included. Event loop only."""

    def __init__(self) -> None:
        self._calls: dict[str, LiveCall] = {}
        self._closed: Reason | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[LiveCall]:
        return iter(list(self._calls.values()))

    def find(self, request_id: str) -> LiveCall | None:
        """The call of this id, if it is under way."""
        return self._calls.get(request_id)

    def end_all(self, reason: Reason) -> None:
        """End every call with a status, and refuse with it whatever would begin from now on."""
        self._closed = reason
        for call in self:
            call.end(CallRefused(reason))

    @contextmanager
    def entry(self, call: Call, grant: Grant, usage: Usage) -> Iterator[LiveCall]:
        """Be one of the calls while the context is open. Raises what the call is refused or ended with.

        As asyncio.timeout does with its own, it takes back only the cancellation that it sent: one of the client's
        stays one.
        """
        if self._closed is not None:
            raise CallRefused(self._closed)
        live = LiveCall(call, grant, usage)
        self._calls[live.id] = live
        try:
            yield live
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if live.refusal is None or task is None or task.uncancel() > 0:
                raise
            raise live.refusal from None
        finally:
            del self._calls[live.id]
            live.over.set()
