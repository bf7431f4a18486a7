"""The calls under way, each with its grant: the place from which they can be ended before their time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from sluicegate.auth import Grant, Reason
from sluicegate.server.errors import CallRefused


class LiveCall:
    """One call under way, in the task that made it."""

    def __init__(self, grant: Grant) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.grant = grant
        self._task = task
        self.refusal: CallRefused | None = None

    def end(self, refusal: CallRefused) -> None:
        """End it wherever it waits: for a slot, for a token, or for its reader. The first refusal counts."""
        if self.refusal is None:
            self.refusal = refusal
            self._task.cancel()


class LiveCalls:
    """All calls that an engine works for, queued ones included. Event loop only."""

    def __init__(self) -> None:
        self._calls: set[LiveCall] = set()
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return len(self._calls)

    async def ended(self) -> None:
        """Wait until there is none."""
        await self._none.wait()

    def end_all(self, reason: Reason) -> None:
        """End every call with a status."""
        for call in list(self._calls):
            call.end(CallRefused(reason))

    @contextmanager
    def entry(self, grant: Grant) -> Iterator[LiveCall]:
        """Be one of the calls while the context is open. Raises the refusal that the call is ended with.

        As asyncio.timeout does with its own, it takes back only the cancellation that it sent: one of the client's
        stays one.
        """
        call = LiveCall(grant)
        self._calls.add(call)
        self._none.clear()
        try:
            yield call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if call.refusal is None or task is None or task.uncancel() > 0:
                raise
            raise call.refusal from None
        finally:
            self._calls.discard(call)
            if not self._calls:
                self._none.set()
