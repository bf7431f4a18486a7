"""What happened to the servers themselves: other policies, outages of their logs, silence."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.server.audit.chain import Head
from sluicegate.server.audit.entries import Checkpoint, Outage, PolicyChanged
from sluicegate.server.audit.form import Record
from sluicegate.server.audit.problems import Report
from sluicegate.server.report.period import Period, seconds_of

MAX_EVENTS = 1_000
"""Of each kind that a report lists; more are counted."""


@dataclass(slots=True)
class Change:
    """A policy that came into force, on one replica after the other."""

    at: str
    """On the first."""
    until: str
    """On the last so far."""
    revision: str
    previous_revision: str | None
    """None: the log tells of none before."""
    stage: str
    previous_stage: str | None
    signatures_checked: bool
    replicas: set[str]

    @property
    def changes_stage(self) -> bool:
        return self.previous_stage not in (None, self.stage)


@dataclass(frozen=True, slots=True)
class LogOutage:
    """A log could not be written from `since` to `until`."""

    replica: str
    since: str
    until: str
    cause: str
    openings_lost: int


@dataclass(slots=True)
class LogCoverage:
    """What a log has of the period. Times as Record.at; None: nothing."""

    first_at: str | None = None
    """Of its first entry that was read."""
    checkpoints: int = 0
    """In the period; so the next."""
    starts: int = 0
    """Of its server."""
    silent_seconds: float = 0.0
    """The longest time in the period without any entry. Checkpoints come in silence too: nobody was there to write."""
    silent_since: str | None = None
    last_at: str | None = None


class EventBook:
    """Follows all entries of all logs, each log's in order."""

    def __init__(self, period: Period) -> None:
        self.changes: list[Change] = []
        self.changes_left_out = 0
        self.outages: list[LogOutage] = []
        self.outages_left_out = 0
        self.coverage: dict[int, LogCoverage] = {}
        """By the identity of the log's Report."""
        self.heads: dict[int, Head] = {}
        """The newest entry of each log that a good signature covers, and that signature's own."""
        self._period = period
        self._in_force: dict[int, tuple[str, str]] = {}

    def follow(self, report: Report, record: Record) -> None:
        coverage = self.coverage.setdefault(id(report), LogCoverage())
        self._cover(coverage, record.at)
        match record.entry:
            case PolicyChanged() as entry:
                before = self._in_force.get(id(report))
                self._in_force[id(report)] = entry.revision, entry.stage
                if record.at in self._period:
                    coverage.starts += entry.previous_revision is None
                    if before != (entry.revision, entry.stage):
                        self._change(report.replica or "", record.at, entry, before)
            case Outage() as entry if record.at in self._period:
                if len(self.outages) < MAX_EVENTS:
                    self.outages.append(
                        LogOutage(report.replica or "", entry.since, record.at, entry.cause, entry.openings_lost)
                    )
                else:
                    self.outages_left_out += 1
            case Checkpoint():
                coverage.checkpoints += record.at in self._period
                if report.log is not None and report.signed_to == record.number - 1:
                    self.heads[id(report)] = Head(report.log, record.number, record.hash.hex())
            case _:
                pass

    def finish(self) -> None:
        """All was read: what is left of the period is silence."""
        for coverage in self.coverage.values():
            self._silence(coverage, self._period.until)

    def _cover(self, coverage: LogCoverage, at: str) -> None:
        if coverage.first_at is None:
            coverage.first_at = at
        self._silence(coverage, at)
        coverage.last_at = max(at, coverage.last_at or "")

    def _silence(self, coverage: LogCoverage, at: str) -> None:
        since = max(coverage.last_at or self._period.since, self._period.since)
        until = min(at, self._period.until)
        if since < until and (seconds := seconds_of(until) - seconds_of(since)) > coverage.silent_seconds:
            coverage.silent_seconds, coverage.silent_since = seconds, since

    def _change(self, replica: str, at: str, entry: PolicyChanged, before: tuple[str, str] | None) -> None:
        revision, stage = before or (None, None)
        for change in reversed(self.changes):
            if (change.revision, change.stage) == (entry.revision, entry.stage) and replica not in change.replicas:
                if change.previous_revision is None:
                    change.previous_revision, change.previous_stage = revision, stage
                change.replicas.add(replica)
                change.until = at
                return
            if replica in change.replicas:
                break
        if len(self.changes) >= MAX_EVENTS:
            self.changes_left_out += 1
            return
        self.changes.append(
            Change(at, at, entry.revision, revision, entry.stage, stage, entry.signatures_checked, {replica})
        )
