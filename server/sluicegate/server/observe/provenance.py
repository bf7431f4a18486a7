"""What do people find out about texts? Checks for watermarks; no text gets here."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

VERDICTS = ("watermarked", "not_found", "insufficient_text", "unsupported")


class ProvenanceMetrics:
    """Counters of DetectText. Event loop only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._checks = Counter(
            "sluicegate_watermark_checks",
            "Keys whose watermark was looked for in a text, by what was found.",
            ["model", "verdict"],
            registry=registry,
        )

    def take_check(self, model: str, verdict: str) -> None:
        """A key of this model was tried. `verdict`: one of VERDICTS."""
        assert verdict in VERDICTS
        self._checks.labels(model, verdict).inc()

    def create(self, models: Iterable[str]) -> None:
        """Create the series of these models."""
        for model in models:
            for verdict in VERDICTS:
                self._checks.labels(model, verdict)
