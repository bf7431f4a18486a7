"""What leaves the registry: every series but the times at which series were made."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector


class WithoutCreated(Collector):
    """A registry without the `_created` sample of each counter and histogram.

    Prometheus keeps these as series of their own, about as many as there are counters, and nobody asks for them: a
    restart shows in `process_start_time_seconds`. The library's own switch for it holds for the whole process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
