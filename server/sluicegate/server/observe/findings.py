"""Who reports on models, and who owes a report?"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from sluicegate.server.observe.labels import INTERNAL, OTHER, PUBLIC

FINDING_KINDS = ("bias", "misuse", "detectability", "memorisation", "other")
"""Values of state.FindingKind."""


class FindingMetrics:
    """Figures of findings by partner. Labels come from ClosedSets."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.filed = Counter(
            "sluicegate_findings", "Findings filed, by what they are about.", ["partner", "kind"], registry=registry
        )
        self.overdue = Gauge(
            "sluicegate_findings_overdue",
            "The partner's agreements in force whose next finding is overdue.",
            ["partner"],
            registry=registry,
        )
        self._partners: frozenset[str] = frozenset()

    def take_overdue(self, counts: Mapping[str, int]) -> None:
        """Take how many of each partner's agreements are overdue; of one that is not named, none."""
        for partner in self._partners:
            self.overdue.labels(partner).set(counts.get(partner, 0))

    def create(self, partners: Collection[str]) -> None:
        """Create the series of these partners. Who has no agreement owes nothing."""
        self._partners = frozenset(partners) - {PUBLIC, INTERNAL, OTHER}
        for partner in partners:
            for kind in FINDING_KINDS:
                self.filed.labels(partner, kind)
        for partner in self._partners:
            self.overdue.labels(partner)
