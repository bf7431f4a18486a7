"""The time that a report is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sluicegate.server.audit.form import time_text

DAY_SECONDS = 86_400
MAX_SPANS = 62
"""Columns of a plot over time: two months of days."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` on, before `until`; both as `Record.at`."""

    since: str
    until: str
    asked_until: str | None = None
    """The end that was asked for, if the period is not over and was cut at `until`."""

    @property
    def seconds(self) -> float:
        return seconds_of(self.until) - seconds_of(self.since)

    @property
    def has_whole_days(self) -> bool:
        return all(text.endswith("T00:00:00.000Z") for text in (self.since, self.until))

    @property
    def span_days(self) -> int:
        """How many days a span has, so that there are few enough."""
        days = -(-self.seconds // DAY_SECONDS)
        return max(1, int(-(-days // MAX_SPANS)))

    @property
    def spans(self) -> int:
        return max(1, int(-(-self.seconds // (self.span_days * DAY_SECONDS))))

    def __contains__(self, at: str) -> bool:
        return self.since <= at < self.until

    def span_of(self, at: str) -> int:
        """Index of the span that a time of the period lies in."""
        return int((seconds_of(at) - seconds_of(self.since)) // (self.span_days * DAY_SECONDS))

    def span_starts(self, index: int) -> str:
        """When a span starts; that after the last one starts with the end of the period."""
        start = datetime.fromisoformat(self.since) + timedelta(days=index * self.span_days)
        return min(time_text(start.astimezone(UTC).timestamp()), self.until)


def up_to_now(since: str, until: str, now: str) -> Period:
    """The period, cut at `now` if it is not over. `since` is before both."""
    return Period(since, until) if until <= now else Period(since, now, asked_until=until)


def duration_text(seconds: float) -> str:
    """As 12 s, 5 min, 2 h 5 min or 3 d 4 h, rounded down."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    units = ((86_400, 3_600, "d", "h"), (3_600, 60, "h", "min"), (60, 60, "min", ""))
    size, part, unit, part_unit = next(each for each in units if whole >= each[0])
    rest = whole % size // part
    return f"{whole // size} {unit}" + (f" {rest} {part_unit}" if rest and part_unit else "")


def seconds_of(at: str) -> float:
    """Unix seconds of a time of an entry."""
    return datetime.fromisoformat(at).timestamp()
