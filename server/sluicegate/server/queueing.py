"""The bounded queue in front of each model: a call waits here for its slots, or is turned away at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sluicegate.auth import Reason
from sluicegate.server.errors import CallRefused

OVERLOADED_RETRY_SECONDS = 1.0


class Queue:
    """Counts the calls that wait, model by model. Event loop only.

    Never more than `limit`, and of one identity never more than its `share` of them (0 to 1), rounded down but at
    least one: a flood leaves places to the others. Whose turn it is among those that wait, the engine decides.
    """

    def __init__(self, limit: int, share: float) -> None:
        self._limit = limit
        self._limit_of_one = max(1, int(limit * share))
        self._waiting: Counter[str] = Counter()
        self._waiting_of_one: Counter[tuple[str, str]] = Counter()

    def waiting(self, model: str) -> int:
        """Calls that wait for this model now."""
        return self._waiting[model]

    @contextmanager
    def place(self, model: str, identity: str) -> Iterator[None]:
        """A place, held while the context is open. Raises CallRefused (SERVER_OVERLOADED) if there is none."""
        own = (model, identity)
        if self._waiting[model] >= self._limit or self._waiting_of_one[own] >= self._limit_of_one:
            raise CallRefused(Reason.SERVER_OVERLOADED, retry_after_seconds=OVERLOADED_RETRY_SECONDS)
        self._waiting[model] += 1
        self._waiting_of_one[own] += 1
        try:
            yield
        finally:
            self._waiting[model] -= 1
            self._waiting_of_one[own] -= 1
            if not self._waiting_of_one[own]:
                del self._waiting_of_one[own]  # else every client that ever waited would be remembered
