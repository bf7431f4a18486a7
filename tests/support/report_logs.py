"""Records for reports, made without files: each with its time in seconds after the period's start."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sluicegate.server.audit.entries import Entry
from sluicegate.server.audit.form import NO_HASH, Record, chained, time_text
from sluicegate.server.audit.problems import Report
from sluicegate.server.report.period import Period, seconds_of
from sluicegate.server.report.tally import Tally

PERIOD = Period("2026-10-01T00:00:00.000Z", "2026-10-08T00:00:00.000Z")
START = seconds_of(PERIOD.since)
DAY = 86_400.0


def at(seconds: float) -> str:
    return time_text(START + seconds)


def log_report(replica: str = "gate-0") -> Report:
    return Report(Path(replica), log=replica.encode().hex().ljust(32, "0"), deployment="example", replica=replica)


def record(seconds: float, entry: Entry, number: int = 0) -> Record:
    return chained(number, at(seconds), entry, NO_HASH)


def tally_of(entries: Iterable[tuple[float, Entry]], *, period: Period = PERIOD, report: Report | None = None) -> Tally:
    """A tally of one log that holds these entries."""
    tally, log = Tally(period), report or log_report()
    for seconds, entry in entries:
        tally.follow(log, record(seconds, entry))
    return tally
