"""What becomes of a filing and of a review whose caller leaves; tests/server/rpc/test_findings.py has all else."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest
from issuer import NOW, PEER, FakeClock
from policies import policy
from state_findings_suite import finding

from sluicegate.auth import Principal, Reason
from sluicegate.server.audit import Pseudonyms
from sluicegate.server.caller import Caller
from sluicegate.server.errors import CallRefused
from sluicegate.server.findings import FilingLimits, Findings
from sluicegate.server.gate import Gate
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.state import (
    FiledFinding,
    Finding,
    FindingKind,
    FindingStatus,
    Report,
    Review,
    Severity,
    StateUnavailable,
)
from sluicegate.server.watermark import Keyring

STRANGER = Principal(
    issuer="https://issuer.example",
    subject="alice",
    client_id="app",
    token_id="t",
    key_id="k",
    scopes=frozenset(),
    authorization_details=(),
    issued_at=NOW,
    expires_at=NOW + 60,
    authenticated_at=None,
    acr=None,
    certificate_thumbprint=None,
)
REPORT = Report(FindingKind.OTHER, "gpt2-124m", Severity.LOW, "Odd.")


class SlowStore:
    """Takes its time, and then does as it is told."""

    def __init__(self) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self.reviewed: list[Review] = []
        self.is_lost = False

    async def file_finding(self, finding: Finding, **_terms: Any) -> FiledFinding:
        await self._wait()
        return FiledFinding(finding)

    async def finding(self, _id: str) -> FiledFinding:
        return FiledFinding(finding())

    async def review_finding(self, _id: str, review: Review) -> None:
        await self._wait()
        self.reviewed.append(review)

    async def _wait(self) -> None:
        self.asked.set()
        await self.answer.wait()
        if self.is_lost:
            raise StateUnavailable("gone")


class Audited:
    """What the audit log was told."""

    def __init__(self) -> None:
        self.filed: list[Finding] = []
        self.reviews: list[Review] = []

    def finding_filed(self, _reporter: Principal, finding: Finding) -> None:
        self.filed.append(finding)

    async def reviewing(self, _operator: Principal, _finding: Finding, review: Review) -> None:
        self.reviews.append(review)


def findings(store: SlowStore, audited: Audited) -> Findings:
    loaded, metrics, clock = policy(), Metrics(), FakeClock()
    gate = Gate(lambda: loaded, metrics, clock, withdrawals_age=lambda: 0.0, keyring=Keyring())
    parts: Any = (store, gate, SimpleNamespace(find=lambda _model: None), audited, metrics)
    return Findings(*parts, names=Pseudonyms(bytes(32)), limits=FilingLimits(20, 200), clock=clock)


async def left(work: asyncio.Task[Any], store: SlowStore) -> None:
    """Its caller leaves while the store is asked; then the store answers."""
    await store.asked.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    store.answer.set()


async def settled(found: Findings) -> None:
    await asyncio.wait(found._running)
    await asyncio.sleep(0)  # for what hears of their ends


async def test_finding_whose_reporter_left_is_told_to_the_audit_log_all_the_same() -> None:
    store, audited = SlowStore(), Audited()
    found = findings(store, audited)
    filing = asyncio.create_task(found.create(Caller(STRANGER, PEER), REPORT, "", validate_only=False))

    await left(filing, store)
    await settled(found)

    assert [each.report for each in audited.filed] == [REPORT]


async def test_review_whose_operator_left_is_made() -> None:
    store, audited = SlowStore(), Audited()
    found = findings(store, audited)
    reviewing = asyncio.create_task(
        found.review(STRANGER, "f-1", FindingStatus.ACCEPTED, "It holds.", validate_only=False)
    )

    await left(reviewing, store)
    await settled(found)

    assert store.reviewed == audited.reviews == [Review(FindingStatus.ACCEPTED, NOW, "It holds.")]


async def test_failure_that_nobody_waits_for_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    store, audited = SlowStore(), Audited()
    found = findings(store, audited)
    filing = asyncio.create_task(found.create(Caller(STRANGER, PEER), REPORT, "", validate_only=False))
    store.is_lost = True

    await left(filing, store)
    await settled(found)
    gc.collect()

    assert audited.filed == []
    assert "never retrieved" not in caplog.text


async def test_weights_of_a_model_that_is_not_loaded_are_those_that_the_policy_pins() -> None:
    store, audited = SlowStore(), Audited()
    store.answer.set()
    found = findings(store, audited)
    pinned = policy().models[REPORT.model].weights_sha256

    filed = await found.create(Caller(STRANGER, PEER), REPORT, "", validate_only=True)

    assert filed.finding.weights_sha256 == pinned


async def test_store_that_does_not_answer_refuses_the_filing() -> None:
    store, audited = SlowStore(), Audited()
    store.is_lost = True
    store.answer.set()

    with pytest.raises(CallRefused) as caught:
        await findings(store, audited).create(Caller(STRANGER, PEER), REPORT, "", validate_only=False)

    assert caught.value.reason is Reason.STATE_UNAVAILABLE
