"""When an agreement's next finding is due, and what the metric shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from issuer import ISSUER, NOW, FakeClock
from policies import Document, agreement, policy
from state_findings_suite import finding

from sluicegate.server.finding_duties import FindingDuties, FindingFigures
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.state import FindingStatus, Review, Store, open_store

DAY = 86_400
BEGIN = 1_768_867_200  # 2026-01-20T00:00:00Z, 13 days before NOW


def owing(every: str, id_: str = "agr-1", partner: str = "lab", **changes: object) -> Document:
    """An agreement since BEGIN with a duty."""
    clients = [{"issuer": ISSUER, "client": f"client-of-{id_}"}]
    return agreement(id=id_, partner=partner, clients=clients, findings={"due_every": every}, **changes)


@dataclass
class Case:
    name: str
    terms: Document
    filed: tuple[tuple[float, FindingStatus], ...]
    due: float | None
    is_overdue: bool = False


OPEN, REJECTED, ACCEPTED = FindingStatus.OPEN, FindingStatus.REJECTED, FindingStatus.ACCEPTED
CASES = [
    Case("none yet", owing("30d"), (), BEGIN + 30 * DAY),
    Case("none, and late", owing("7d"), (), BEGIN + 7 * DAY, is_overdue=True),
    Case("the last one counts", owing("7d"), ((NOW - 9 * DAY, OPEN), (NOW - DAY, OPEN)), NOW + 6 * DAY),
    Case("an accepted one counts", owing("7d"), ((NOW - DAY, ACCEPTED),), NOW + 6 * DAY),
    Case("a rejected one does not", owing("30d"), ((NOW - 9 * DAY, OPEN), (NOW - DAY, REJECTED)), NOW + 21 * DAY),
    Case("due to the second", owing("1d"), ((NOW - DAY, OPEN),), NOW),
    Case("late by a second", owing("1d"), ((NOW - DAY - 1, OPEN),), NOW - 1, is_overdue=True),
    Case("one from before the term moves nothing", owing("30d"), ((BEGIN - DAY, OPEN),), BEGIN + 30 * DAY),
    Case("no duty", agreement(findings=None), (), None),
    Case("a draft has none", owing("1d", status="draft"), (), None),
    Case("nor has a suspended agreement", owing("1d", status="suspended"), (), None),
]


async def opened(directory: Path) -> Store:
    return await open_store(f"sqlite:///{directory}/state.db")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_next_finding_is_due(tmp_path: Path, case: Case) -> None:
    store = await opened(tmp_path)
    for at, status in case.filed:
        filed = finding(int(at * 1000), partner="lab", agreement="agr-1")
        await store.file_finding(filed)
        if status is not OPEN:
            await store.review_finding(filed.id, Review(status, NOW, "So it is."))
    loaded = policy(None, case.terms)

    [*duties] = await FindingDuties(store, lambda: loaded, FakeClock()).all()

    assert [(duty.due_at, duty.is_overdue) for duty in duties] == (
        [] if case.due is None else [(case.due, case.is_overdue)]
    )
    await store.close()


async def test_rejected_ones_are_passed_over_however_many(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    for number in range(12):
        filed = finding((NOW - DAY + number) * 1000, agreement="agr-1")
        await store.file_finding(filed)
        if number:
            await store.review_finding(filed.id, Review(REJECTED, NOW, "No."))
    loaded = policy(None, owing("7d"))

    duty = await FindingDuties(store, lambda: loaded, FakeClock()).of("agr-1")

    assert duty is not None
    assert duty.last_at == NOW - DAY
    await store.close()


async def test_metric_counts_overdue_agreements_by_partner_and_falls_back_to_none(tmp_path: Path) -> None:
    store, metrics = await opened(tmp_path), Metrics()
    metrics.allow([], ["lab", "other-lab"])
    loaded = policy(None, owing("1d"), owing("2d", "agr-2"), owing("30d", "agr-3"), owing("1d", "agr-4", "other-lab"))
    figures = FindingFigures(FindingDuties(store, lambda: loaded, FakeClock()), metrics)

    await figures.refresh()
    before = overdue(metrics)
    for id_ in ("agr-1", "agr-2", "agr-4"):
        await store.file_finding(finding(NOW * 1000, agreement=id_))
    await figures.refresh()

    assert before == {"lab": 2, "other-lab": 1}
    assert overdue(metrics) == {"lab": 0, "other-lab": 0}
    await store.close()


async def test_where_the_store_cannot_be_asked_the_figures_of_before_stay(tmp_path: Path) -> None:
    store, metrics = await opened(tmp_path), Metrics()
    metrics.allow([], ["lab"])
    metrics.findings.take_overdue({"lab": 1})
    loaded = policy(None, owing("30d"))
    await store.close()

    await FindingFigures(FindingDuties(store, lambda: loaded, FakeClock()), metrics).refresh()

    assert overdue(metrics) == {"lab": 1}


def overdue(metrics: Metrics) -> dict[str, float]:
    [family] = [each for each in metrics.registry.collect() if each.name == "sluicegate_findings_overdue"]
    return {sample.labels["partner"]: sample.value for sample in family.samples}
