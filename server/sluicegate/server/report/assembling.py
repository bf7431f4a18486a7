"""Puts a report together: what was counted, how far the logs can be relied on, and what a reader must know first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sluicegate.auth import Policy
from sluicegate.evidence import NO_EVIDENCE, EvidenceSet
from sluicegate.server.audit.problems import Report
from sluicegate.server.report.evaluations import evaluations, known_before
from sluicegate.server.report.events import EventBook, LogCoverage
from sluicegate.server.report.figures import Figures, LogRow, Signals
from sluicegate.server.report.findings import finding_figures
from sluicegate.server.report.making import CLASSES, Refusals, Use, change_rows, outage_rows, withdrawal_rows
from sluicegate.server.report.period import Period, duration_text, seconds_of
from sluicegate.server.report.release import planned_rows, requirement_rows, stage_rows
from sluicegate.server.report.suppression import told
from sluicegate.server.report.tally import Tally

LONG_SILENCE_SECONDS = 600.0
"""A server that runs writes a checkpoint at least once an hour, and by default each minute."""


@dataclass(frozen=True, slots=True)
class Logs:
    """The logs as they were verified."""

    reports: Sequence[Report]
    problems: int
    """In logs and between them."""


def assemble(
    tally: Tally,
    logs: Logs,
    *,
    title: str,
    policy: Policy | None = None,
    evidence: EvidenceSet | None = None,
    signals: Signals | None = None,
) -> Figures:
    """The figures of a period. `tally` has followed all records of the logs."""
    period, events = tally.period, tally.events
    events.finish()
    use, refusals = Use(tally.calls, period), Refusals(tally.calls, period)
    known = NO_EVIDENCE if evidence is None else known_before(evidence, period.until)
    rows = tuple(sorted(_log_rows(logs, events), key=lambda row: (row.replica, row.log or "")))
    return Figures(
        title=title,
        since=period.since,
        until=period.until,
        is_verified=not logs.problems,
        reservations=(*_of_logs(tally, logs, rows), *_of_sources(events, policy, evidence, signals)),
        audiences=use.audiences,
        requests=use.whole,
        by_model=use.by_model(),
        by_audience=use.by_audience(),
        by_partner=use.by_partner(),
        requests_over_time=use.over_time(),
        classes=CLASSES,
        denials=refusals.denials,
        by_class=refusals.by_class(),
        by_reason=refusals.by_reason(),
        denials_by_partner=refusals.by_partner(),
        denials_over_time=refusals.over_time(),
        interrupted=told(use.told_of(tally.calls.interrupted)),
        interrupted_tokens=told(use.told_of(tally.calls.reserved_tokens), use.told_of(tally.calls.interrupted)),
        withdrawals=withdrawal_rows(tally.withdrawals, use),
        changes=change_rows(events),
        stages=() if policy is None else stage_rows(policy),
        requirements=() if policy is None else requirement_rows(policy, known),
        planned=() if policy is None else planned_rows(policy, known, events, period),
        findings=finding_figures(tally.findings),
        evaluations=None if evidence is None else evaluations(known, policy),
        outages=outage_rows(events.outages),
        logs=rows,
        signals=signals,
    )


def _log_rows(logs: Logs, events: EventBook) -> Iterator[LogRow]:
    for report in logs.reports:
        head, coverage = events.heads.get(id(report)), events.coverage.get(id(report), LogCoverage())
        yield LogRow(
            replica=report.replica or "",
            deployment=report.deployment or "",
            log=report.log,
            is_verified=report.is_good,
            problems=len(report.problems) + report.more_problems,
            is_key_given=report.is_key_given,
            is_anchored=report.is_anchored,
            last_head=None if head is None else str(head),
            first_at=coverage.first_at,
            last_at=coverage.last_at,
            checkpoints=coverage.checkpoints,
            starts=coverage.starts,
            silent_seconds=round(coverage.silent_seconds, 3),
            silent_since=coverage.silent_since,
        )


def _of_logs(tally: Tally, logs: Logs, rows: Sequence[LogRow]) -> Iterator[str]:
    """What must be known of what the logs tell, the gravest first."""
    period = tally.period
    if logs.problems:
        yield (
            f"NOT VERIFIED: the logs are not as their servers wrote them ({logs.problems} problem(s) found by "
            "`sluicegate audit verify`). Any figure may be wrong."
        )
    if period.asked_until is not None:
        yield f"The period is not over: figures up to {period.until}, of a period that ends at {period.asked_until}."
    if not all(row.is_key_given for row in rows):
        yield "No key was given for the signatures: a log that was made anew with another key would not be found."
    if not all(row.is_anchored for row in rows):
        yield "Not every log was compared with a head kept elsewhere: entries cut off its end would not be missed."
    if period.asked_until is None and not period.has_whole_days:
        yield "The period is not made of whole days (UTC)."
    for row in rows:
        yield from _coverage(row, period)
    if tally.calls.unattributed:
        yield "Some calls ended whose beginnings are not in the logs: their tokens are not counted."
    if tally.withdrawals.left_out or tally.events.changes_left_out or tally.events.outages_left_out:
        yield "There were more withdrawals, changes or outages than are listed."
    if tally.findings.left_out:
        yield "There were more findings than are counted."


def _of_sources(
    events: EventBook, policy: Policy | None, evidence: EvidenceSet | None, signals: Signals | None
) -> Iterator[str]:
    """What must be known of what stands in no log."""
    if evidence is not None and evidence.unusable:
        yield f"{len(evidence.unusable)} file(s) that were given as evidence are none, and are left out."
    if policy is not None and events.changes and events.changes[-1].revision != policy.revision:
        yield "The policy directory that was given is not the policy last put in force in the period."
    if signals is None:
        yield "No Prometheus was asked: alerts, duplicates, personal data and flagged content are not in this report."
    else:
        yield from signals.gaps


def _coverage(row: LogRow, period: Period) -> Iterator[str]:
    name = f"The log of replica {row.replica}"
    if row.first_at is None or row.last_at is None:
        yield f"{name} has no entries."
        return
    if row.first_at > period.since:
        yield f"{name} begins at {row.first_at}, after the period does."
    missing = seconds_of(period.until) - seconds_of(max(row.last_at, period.since))
    if missing > LONG_SILENCE_SECONDS:
        yield (
            f"{name} has no entry since {row.last_at}; the figures go up to {duration_text(missing)} later. Its server "
            "had stopped, could not write, or this copy of the log is from then."
        )
    elif missing > 0 and period.asked_until is None:  # of a period that goes on, the next entry is still to come
        yield f"{name} ends at {row.last_at}, before the period does."
    is_between = row.silent_since is not None and row.first_at <= row.silent_since < row.last_at
    if row.silent_seconds > LONG_SILENCE_SECONDS and is_between:
        yield (
            f"{name} has no entry for {duration_text(row.silent_seconds)} from {row.silent_since} on: its server did "
            "not run, or could not write."
        )
