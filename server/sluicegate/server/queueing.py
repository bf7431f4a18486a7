"""The bounded queue in front of each model: a call waits here for its slots, or is turned away at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sluicegate.auth import Reason
from sluicegate.server.errors import CallRefused

OVERLOADED_RETRY_SECONDS = 1.0


class Queue:
    """Counts the calls that wait, model by model; never more than `limit`. Event loop only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: Counter[str] = Counter()

    def waiting(self, model: str) -> int:
        """Calls that wait for this model now."""
        return self._waiting[model]

    @contextmanager
    def place(self, model: str) -> Iterator[None]:
        """A place, held while the context is open. Raises CallRefused (SERVER_OVERLOADED) if there is none."""
        if self._waiting[model] >= self._limit:
            raise CallRefused(Reason.SERVER_OVERLOADED, retry_after_seconds=OVERLOADED_RETRY_SECONDS)
        self._waiting[model] += 1
        try:
            yield
        finally:
            self._waiting[model] -= 1
