"""How requirements stand on a running server: by evidence beside the policy, by the store's findings, in the metric."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import evidence_files as made
import pytest
from harness import LONG_SECONDS, METRICS, SCRIPTED_WEIGHTS, bearer, demo_plan, serving, until
from issuer import NOW
from policies import policy, release
from state_findings_suite import finding

from sluicegate.auth import Policy, RequirementState, Withdrawals
from sluicegate.evidence import NO_EVIDENCE, EvidenceSet, digest, read_directory
from sluicegate.server.changes import Changes
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.requirements import SEVERE_FINDINGS, RequirementFigures, Requirements
from sluicegate.server.state import FindingStatus, Review, Severity, Store, open_store
from sluicegate.v1.release_service_pb2 import (
    REQUIREMENT_STATE_MET as MET,
)
from sluicegate.v1.release_service_pb2 import (
    REQUIREMENT_STATE_MISSING as MISSING,
)
from sluicegate.v1.release_service_pb2 import (
    GetReleasePlanRequest,
)
from sluicegate.v1.release_service_pb2_grpc import ReleaseServiceStub

AUDITOR = bearer(sub="anna", client_id="audit", scope="release:read")
MODEL, WEIGHTS = "gpt2-774m", made.WEIGHTS
BIAS, FINDING = ("bias", MODEL), ("finding:example-lab", MODEL)


def loaded(evidence: EvidenceSet = NO_EVIDENCE, **changes: Any) -> Policy:
    plan = release(**{"active": "s3", **changes})
    plan["models"][MODEL]["weights_sha256"] = WEIGHTS
    return replace(policy(plan), evidence=evidence)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(f"sqlite:///{tmp_path}/state.db")
    yield opened
    await opened.close()


async def file(
    store: Store,
    status: FindingStatus | None = None,
    severity: Severity = Severity.LOW,
    *,
    partner: str = "example-lab",
    weights: str = WEIGHTS,
) -> str:
    """A finding on the model, with an operator's review if it has one; gives its id."""
    made_now = finding(partner=partner, model=MODEL)
    report = replace(made_now.report, severity=severity)
    filed = replace(made_now, report=report, weights_sha256=weights)
    await store.file_finding(filed)
    if status is not None:
        await store.review_finding(filed.id, Review(status, NOW, "So it is."))
    return filed.id


async def gates(
    store: Store, evidence: EvidenceSet = NO_EVIDENCE, **changes: Any
) -> dict[tuple[str, str], bool | None]:
    found = loaded(evidence, **changes)
    return dict(await Requirements(store, lambda: found).gates())


async def test_a_gate_is_passed_by_the_newest_evidence(store: Store, tmp_path: Path) -> None:
    made.write(tmp_path / "evidence", "a.json", made.bias(MODEL))
    good = read_directory(tmp_path / "evidence")
    later = made.ENDED + timedelta(days=400)
    made.write(tmp_path / "evidence", "b.json", made.bias(MODEL, stereotype=90, other=10, ended=later))
    worse = read_directory(tmp_path / "evidence")

    assert [(await gates(store, each))[BIAS] for each in (NO_EVIDENCE, good, worse)] == [False, True, False]


@pytest.mark.parametrize(
    ("filings", "state"),
    [
        ([], RequirementState.MISSING),
        ([None], RequirementState.MISSING),
        ([FindingStatus.ACCEPTED], RequirementState.MET),
        ([FindingStatus.REJECTED], RequirementState.FAILED),
        ([FindingStatus.REJECTED, None], RequirementState.MISSING),
        ([FindingStatus.REJECTED, FindingStatus.ACCEPTED], RequirementState.MET),
    ],
)
async def test_a_finding_is_required_to_be_accepted(
    filings: list[FindingStatus | None], state: RequirementState, store: Store
) -> None:
    for status in filings:
        await file(store, status)
    await file(store, FindingStatus.ACCEPTED, weights="9" * 64)
    await file(store, FindingStatus.ACCEPTED, partner="other-lab")
    found = loaded()

    judged = await Requirements(store, lambda: found).judge()

    [judgement] = [each for requirement, each in judged.items() if requirement.finding is not None]
    assert judgement is not None
    assert judgement.state is state
    assert bool(judgement.explanation) is not judgement.is_met


@pytest.mark.parametrize(
    ("severity", "status", "weights", "is_passed"),
    [
        (Severity.HIGH, FindingStatus.ACCEPTED, WEIGHTS, False),
        (Severity.CRITICAL, FindingStatus.ACCEPTED, WEIGHTS, False),
        (Severity.MEDIUM, FindingStatus.ACCEPTED, WEIGHTS, True),
        (Severity.CRITICAL, FindingStatus.REJECTED, WEIGHTS, True),
        (Severity.CRITICAL, None, WEIGHTS, True),
        (Severity.CRITICAL, FindingStatus.ACCEPTED, "9" * 64, True),
    ],
)
async def test_a_severe_finding_that_was_accepted_stands_against_its_model(
    severity: Severity, status: FindingStatus | None, weights: str, is_passed: bool, store: Store
) -> None:
    await file(store, status, severity, partner="public", weights=weights)

    found = loaded()
    assert (await gates(store))[(SEVERE_FINDINGS, MODEL)] is is_passed
    assert (await Requirements(store, lambda: found).severely_reported() == ()) is is_passed


async def test_only_what_the_stage_in_force_rests_on_counts(store: Store) -> None:
    assert BIAS in await gates(store)
    assert BIAS not in await gates(store, active="s2")
    assert (SEVERE_FINDINGS, MODEL) in await gates(store, active="s1")
    assert (SEVERE_FINDINGS, "gpt2-1558m") not in await gates(store, active="s1")


async def test_a_stage_that_is_gone_from_the_plan_rests_on_nothing(store: Store) -> None:
    found = loaded().under(Withdrawals(stages=frozenset({"s0"})))

    assert await Requirements(store, lambda: found).gates() == {}


async def test_where_the_store_cannot_be_asked_evidence_still_counts(store: Store, tmp_path: Path) -> None:
    made.write(tmp_path / "evidence", "a.json", made.bias(MODEL))
    await file(store, FindingStatus.ACCEPTED)
    current, metrics = loaded(), Metrics()
    figures = RequirementFigures(Requirements(store, lambda: current), metrics, Changes())
    await figures.refresh()
    before = shown(metrics)

    await store.close()
    current = loaded(read_directory(tmp_path / "evidence"))
    await figures.refresh()

    assert (before[BIAS], before[FINDING]) == (0, 1)
    assert shown(metrics) == before | {BIAS: 1}


async def test_a_gate_that_nothing_rests_on_any_more_has_no_series(store: Store) -> None:
    current, metrics = loaded(), Metrics()
    figures = RequirementFigures(Requirements(store, lambda: current), metrics, Changes())
    await figures.refresh()
    assert BIAS in shown(metrics)

    current = loaded(active="s2")
    await figures.refresh()
    assert BIAS not in shown(metrics)


def shown(metrics: Metrics) -> dict[tuple[str, str], float]:
    [family] = [each for each in metrics.registry.collect() if each.name == "sluicegate_gate_passed"]
    return {(sample.labels["gate"], sample.labels["model"]): sample.value for sample in family.samples}


async def test_new_evidence_shows_at_once_though_the_policy_is_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(active="s3"), metrics=METRICS) as server:
        series = f'sluicegate_gate_passed{{gate="bias",model="{MODEL}"}}'

        async def is_shown(passed: int) -> bool:
            return (await server.metrics()).get(series) == passed

        await until(lambda: is_shown(0))
        made.write(tmp_path / "policy" / "evidence", "bias.json", made.bias(MODEL, weights=SCRIPTED_WEIGHTS))
        await until(lambda: is_shown(1))


async def test_the_plan_says_how_each_requirement_stands(tmp_path: Path) -> None:
    path = made.write(tmp_path / "policy" / "evidence", "bias.json", made.bias(MODEL, weights=SCRIPTED_WEIGHTS))
    async with serving(tmp_path, demo_plan()) as server:
        stub: Any = ReleaseServiceStub(server.channel)
        answer = await stub.GetReleasePlan(GetReleasePlanRequest(), metadata=AUDITOR, timeout=LONG_SECONDS)

    bias, partners = answer.plan.stages[2].requires
    assert (bias.state, bias.explanation, bias.evidence_sha256) == (MET, "", digest(path.read_bytes()))
    assert (partners.state, partners.evidence_sha256) == (MISSING, "")
    assert partners.explanation == "example-lab has filed no finding on these weights"
