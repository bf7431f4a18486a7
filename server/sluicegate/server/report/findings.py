"""Findings that were filed in the period, and what operators had made of them by its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sluicegate.server.audit import FindingFiled, FindingReviewed
from sluicegate.server.audit.entries import OTHER
from sluicegate.server.observe.findings import FINDING_KINDS
from sluicegate.server.report.calls import MAX_NAMES
from sluicegate.server.report.figures import FindingFigures, FindingRow
from sluicegate.server.report.period import Period
from sluicegate.server.report.suppression import merged, told

MAX_FINDINGS = 100_000
"""That a report follows; more are counted. The public may file 73,000 in a year."""
SEVERITIES = ("low", "medium", "high", "critical")
"""Values of state.Severity, the least first."""
STATUSES = ("open", "accepted", "rejected")
"""Values of state.FindingStatus."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a log has of one, less its reporter."""

    kind: str
    severity: str
    model: str
    status: str = "open"


class FindingBook:
    """Follows the entries of all logs, in order; bounded, whatever they hold."""

    def __init__(self, period: Period) -> None:
        self.findings: dict[str, Finding] = {}
        """By id."""
        self.left_out = 0
        self._period = period
        self._models: set[str] = set()

    def filed(self, at: str, entry: FindingFiled) -> None:
        """A finding; one that was filed outside the period does not count."""
        if at not in self._period:
            return
        if len(self.findings) >= MAX_FINDINGS:
            self.left_out += 1
            return
        model = entry.model if len(self._models | {entry.model}) <= MAX_NAMES else OTHER
        self._models.add(model)
        self.findings[entry.id] = Finding(
            kind=entry.finding if entry.finding in FINDING_KINDS else OTHER,
            severity=entry.severity if entry.severity in SEVERITIES else OTHER,
            model=model,
        )

    def reviewed(self, at: str, entry: FindingReviewed) -> None:
        """A review takes the place of the one before, up to the end of the period."""
        finding = self.findings.get(entry.id)
        if finding is not None and at < self._period.until and entry.status in STATUSES:
            self.findings[entry.id] = replace(finding, status=entry.status)


def finding_figures(book: FindingBook) -> FindingFigures:
    """Each table adds up to all findings: its small rows are joined with their neighbours, and none is left out.

    So tables by one property each say nothing of how they cross: whatever small number of findings has two properties
    together, the same tables come of another.
    """
    found = book.findings.values()
    return FindingFigures(
        filed=told(len(found)),
        by_kind=_rows(FINDING_KINDS, Counter(each.kind for each in found)),
        by_severity=_rows(SEVERITIES, Counter(each.severity for each in found)),
        by_status=_rows(STATUSES, Counter(each.status for each in found)),
        by_model=_rows((), Counter(each.model for each in found)),
    )


def _rows(known: Sequence[str], counts: Counter[str]) -> tuple[FindingRow, ...] | None:
    names = (*known, *sorted(counts.keys() - set(known)))
    runs = merged([counts[name] for name in names])
    if runs is None:
        return None
    return tuple(FindingRow(names[run.first : run.last + 1], run.count) for run in runs)
