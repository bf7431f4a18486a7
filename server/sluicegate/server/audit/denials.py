"""Calls turned away before their caller was known: counted by minute, so that strangers cannot fill a disk."""

from __future__ import annotations

from collections import Counter

from sluicegate.auth import Reason
from sluicegate.server.audit.entries import Denials
from sluicegate.server.audit.form import time_text


class DenialCounter:
    """Counts of one minute, or of several if they could not be taken in between. Not for two threads at once."""

    def __init__(self) -> None:
        self._first = self._last = 0
        self._counts: Counter[Reason] = Counter()

    def count(self, reason: Reason, now: float) -> None:
        minute = _minute(now)
        if not self._counts:
            self._first = self._last = minute
        self._last = max(self._last, minute)
        self._counts[reason] += 1

    def is_over(self, now: float) -> bool:
        """Whether there are counts of another minute than this."""
        return bool(self._counts) and _minute(now) != self._last

    def seconds_left(self, now: float) -> float | None:
        """Until the minute is over; None without counts."""
        return (self._last + 1) * 60 - now if self._counts else None

    def take(self) -> Denials | None:
        """What was counted, which is forgotten here; None if nothing was."""
        if not self._counts:
            return None
        since, until = time_text(self._first * 60), time_text((self._last + 1) * 60)
        counts, self._counts = self._counts, Counter()
        return Denials(since=since, until=until, counts=dict(counts))


def _minute(now: float) -> int:
    return int(now // 60)
