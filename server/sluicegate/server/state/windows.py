"""The windows that quotas are counted in: whole minutes, and days from midnight to midnight in a time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Window:
    """From `start_ms` until before `end_ms`, in milliseconds since the Unix epoch."""

    start_ms: int
    end_ms: int


def minute_of(now_ms: int) -> Window:
    """The minute that a moment lies in."""
    start = now_ms - now_ms % MINUTE_MS
    return Window(start, start + MINUTE_MS)


def day_of(now_ms: int, zone: ZoneInfo) -> Window:
    """The day that a moment lies in; 23 or 25 hours long where the clocks change.

    Days are cut at each date's first midnight, so they tile time even where a change of clocks repeats or skips a
    midnight, or a whole date (Samoa, December 2011).
    """
    today = datetime.fromtimestamp(now_ms // 1000, zone).date()
    midnights = [
        int(datetime.combine(today + timedelta(days=offset), time(), zone).timestamp()) * 1000
        for offset in (-1, 0, 1, 2)
    ]
    return Window(max(cut for cut in midnights if cut <= now_ms), min(cut for cut in midnights if cut > now_ms))
