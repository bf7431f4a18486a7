"""What was kept back? Personal data that redaction took out of outputs; no text gets here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter

from sluicegate.server.signals import PiiType


class RedactionMetrics:
    """Counter of what redaction took out. Event loop only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._redactions = Counter(
            "sluicegate_pii_redactions",
            "Personal data taken out of outputs, by its type.",
            ["partner", "type"],
            registry=registry,
        )

    def take(self, partner: str, redactions: Mapping[PiiType, int]) -> None:
        """So much of each type was taken out of one call's output."""
        for kind, count in redactions.items():
            self._redactions.labels(partner, kind.value).inc(count)

    def create(self, partners: Iterable[str]) -> None:
        """Create the series of these partners."""
        for partner in partners:
            for kind in PiiType:
                self._redactions.labels(partner, kind.value)
