"""What findings are filed with and duties are watched by. A part of app.py."""

from __future__ import annotations

from collections.abc import Callable

from sluicegate.auth import Policy
from sluicegate.server import config
from sluicegate.server.audit import Pseudonyms
from sluicegate.server.auditing import Auditing
from sluicegate.server.background import Keep
from sluicegate.server.finding_duties import FindingDuties, FindingFigures
from sluicegate.server.findings import FilingLimits, Findings
from sluicegate.server.gate import Gate
from sluicegate.server.models import Models
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.state import Store, patiently


async def opened_findings(
    settings: config.Findings,
    store: Store,
    gate: Gate,
    models: Models,
    *,
    auditing: Auditing,
    metrics: Metrics,
    clock: Callable[[], float],
) -> Findings:
    """The use case, whose pseudonyms are under the store's salt. Raises StateError."""
    return Findings(
        store,
        gate,
        models,
        auditing,
        metrics,
        names=Pseudonyms(await patiently(store.salt)),
        limits=FilingLimits(settings.reporter_per_day, settings.public_per_day),
        clock=clock,
    )


def watched_duties(
    keep: Keep, store: Store, policy: Callable[[], Policy], metrics: Metrics, clock: Callable[[], float]
) -> FindingDuties:
    """How agreements' duties to report stand; which are overdue is kept in the metrics."""
    duties = FindingDuties(store, policy, clock)
    keep(FindingFigures(duties, metrics).run, "findings")
    return duties
