"""Every metric of the server, one module for each group of docs/metrics.md, which says what question each answers.

Label values come from closed sets (labels.py). Children are made at start: a counter that is born at 1 never fires an
`increase()` alert. The home of prometheus_client is this package.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from sluicegate.server.observe.access import AccessMetrics
from sluicegate.server.observe.control import ControlMetrics
from sluicegate.server.observe.engine import EngineMetrics
from sluicegate.server.observe.findings import FindingMetrics
from sluicegate.server.observe.labels import OTHER, ClosedSets
from sluicegate.server.observe.latency import LatencyMetrics
from sluicegate.server.observe.provenance import ProvenanceMetrics
from sluicegate.server.observe.quotas import QuotaMetrics
from sluicegate.server.observe.redactions import RedactionMetrics
from sluicegate.server.observe.rpcs import RpcMetrics
from sluicegate.server.observe.signals import SignalMetrics


class Metrics:
    """The registry and all its metrics. Event loop only, but for reading the registry.

    `flagged_categories`: those of the flagged lexicon.
    """

    def __init__(self, *, flagged_categories: Iterable[str] = ()) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.labels = ClosedSets(registry)
        self.latency = LatencyMetrics(registry)
        self.rpcs = RpcMetrics(registry)
        self.access = AccessMetrics(registry)
        self.quotas = QuotaMetrics(registry)
        self.provenance = ProvenanceMetrics(registry)
        self.redactions = RedactionMetrics(registry)
        self.engine = EngineMetrics(registry, self.labels)
        self.control = ControlMetrics(registry)
        self.findings = FindingMetrics(registry)
        self.signals = SignalMetrics(registry, self.labels, flagged_categories)
        self._create()

    def allow(self, models: Iterable[str], partners: Iterable[str]) -> None:
        """Take the label values of a new policy. Earlier ones stay allowed: their series exist already."""
        self.labels.allow(models, partners)
        self._create()

    def model(self, name: str) -> str:
        """The label for a model id that a caller may have made up."""
        return self.labels.model(name)

    def partner(self, name: str) -> str:
        """The label for a partner."""
        return self.labels.partner(name)

    def _create(self) -> None:
        models, partners = (*self.labels.models, OTHER), (*self.labels.partners, OTHER)
        self.latency.create(models)
        self.rpcs.create(models)
        self.access.create(models, partners)
        self.quotas.create(partners)
        self.provenance.create(models)
        self.redactions.create(partners)
        self.engine.create(models)
        self.control.create(self.labels.models)
        self.findings.create(partners)
        self.signals.create(models, partners)
