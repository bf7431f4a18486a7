"""Findings through the wire: who may file what and as whom, who sees it, what operators make of it, and what is due."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Awaitable, MutableMapping
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from audit_logs import records
from disks import FailingDisk
from google.protobuf.message import Message
from harness import (
    AUDIT,
    LONG_SECONDS,
    METRICS,
    SMALL,
    Refusal,
    Server,
    bearer,
    demo_plan,
    open_agreement,
    refusal,
    serving,
    until,
)
from issuer import ISSUER, NOW
from operators import withdraw

from sluicegate.server.audit.entries import FindingFiled, FindingReviewed
from sluicegate.server.state.findings import DOMAIN
from sluicegate.v1 import finding_service_pb2 as pb
from sluicegate.v1.access_service_pb2 import GetCallerIdentityRequest, GetCallerIdentityResponse
from sluicegate.v1.model_service_pb2 import GetModelRequest, GetModelResponse, Model
from sluicegate.v1.withdrawal_service_pb2 import WithdrawalTarget

DAY = 86_400
REPORTER = "findings:read findings:write"
LAB = bearer(scope=REPORTER, client_id="lab-app", sub="ann")
COLLEAGUE = bearer(scope=REPORTER, client_id="lab-eval", sub="bob")
OTHER_LAB = bearer(scope=REPORTER, client_id="other-app")
STRANGER = bearer(scope=REPORTER)
OTHER_STRANGER = bearer(scope=REPORTER, client_id="other-stranger")
OPERATOR = bearer(scope=f"{REPORTER} findings:manage", client_id="console", sub="olga")
SECRET_WORDS = "sesame"
Metadata = tuple[tuple[str, str], ...]

AGREEMENTS = (
    open_agreement(clients=[{"issuer": ISSUER, "client": name} for name in ("lab-app", "lab-eval")]),
    open_agreement(
        id="agr-other-lab", partner="other-lab", clients=[{"issuer": ISSUER, "client": "other-app"}], findings=None
    ),
)


def report(**changes: Any) -> pb.CreateFindingRequest:
    members: dict[str, Any] = {
        "kind": pb.FINDING_KIND_BIAS,
        "model": SMALL,
        "severity": pb.FINDING_SEVERITY_HIGH,
        "summary": f"Says {SECRET_WORDS} of surgeons",
        "details": f"First line.\n\tThen {SECRET_WORDS}.",
        "attachments": [
            pb.Attachment(name=f"{SECRET_WORDS}.csv", media_type="text/csv", size_bytes=7, sha256="0f" * 32)
        ],
    }
    return pb.CreateFindingRequest(**{**members, **changes})


def filing(server: Server, metadata: Metadata = LAB, **changes: Any) -> Any:
    return server.findings.CreateFinding(report(**changes), metadata=metadata, timeout=LONG_SECONDS)


async def filed(server: Server, metadata: Metadata = LAB, **changes: Any) -> pb.Finding:
    finding: pb.Finding = (await filing(server, metadata, **changes)).finding
    return finding


def getting(server: Server, id_: str, metadata: Metadata = LAB) -> Any:
    return server.findings.GetFinding(pb.GetFindingRequest(id=id_), metadata=metadata, timeout=LONG_SECONDS)


def listing(server: Server, metadata: Metadata = LAB, **changes: Any) -> Any:
    request = pb.ListFindingsRequest(**changes)
    return server.findings.ListFindings(request, metadata=metadata, timeout=LONG_SECONDS)


async def listed(server: Server, metadata: Metadata = LAB, **changes: Any) -> pb.ListFindingsResponse:
    answer: pb.ListFindingsResponse = await listing(server, metadata, **changes)
    return answer


async def ids(server: Server, metadata: Metadata = LAB, **changes: Any) -> list[str]:
    return [each.id for each in (await listed(server, metadata, **changes)).findings]


def reviewing(
    server: Server,
    id_: str,
    status: pb.FindingStatus.ValueType = pb.FINDING_STATUS_ACCEPTED,
    metadata: Metadata = OPERATOR,
    **changes: Any,
) -> Any:
    request = pb.ReviewFindingRequest(id=id_, status=status, justification="Seen here too.", **changes)
    return server.findings.ReviewFinding(request, metadata=metadata, timeout=LONG_SECONDS)


def asking_duties(server: Server, metadata: Metadata = OPERATOR) -> Any:
    return server.findings.ListFindingDuties(pb.ListFindingDutiesRequest(), metadata=metadata, timeout=LONG_SECONDS)


async def told(call: Awaitable[Message]) -> bytes:
    """All of a refusal but the call's id."""
    refused = await refusal(call)
    return repr((refused.code, refused.text, refused.reason, refused.facts, refused.details)).encode()


async def model(server: Server) -> Model:
    answer: GetModelResponse = await server.models.GetModel(GetModelRequest(model=SMALL), metadata=LAB)
    return answer.model


async def test_partners_finding_has_all_that_evidence_needs(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        finding = await filed(server)

        assert (finding.partner, finding.agreement, finding.stage) == ("example-lab", "agr-example-lab", "s2")
        assert finding.weights_sha256 == (await model(server)).weights_sha256 != ""
        assert (finding.status, finding.create_time.seconds) == (pb.FINDING_STATUS_OPEN, NOW)
        assert int(finding.id[:8] + finding.id[9:13], 16) == NOW * 1000
        assert finding.sha256 == hashlib.sha256(canonical(finding)).hexdigest()
        assert (await getting(server, finding.id)).finding == finding


def canonical(finding: pb.Finding) -> bytes:
    """The canonical form as docs/findings.md defines it, made of the message alone."""
    members = {
        "agreement": finding.agreement or None,
        "created_ms": finding.create_time.ToMilliseconds(),
        "domain": DOMAIN,
        "id": finding.id,
        "partner": finding.partner,
        "report": {
            "attachments": [
                {
                    "media_type": each.media_type,
                    "name": each.name,
                    "sha256": each.sha256,
                    "size_bytes": each.size_bytes,
                }
                for each in finding.attachments
            ],
            "details": finding.details,
            "kind": pb.FindingKind.Name(finding.kind).removeprefix("FINDING_KIND_").lower(),
            "model": finding.model,
            "severity": pb.FindingSeverity.Name(finding.severity).removeprefix("FINDING_SEVERITY_").lower(),
            "summary": finding.summary,
        },
        "reporter": finding.reporter,
        "stage": finding.stage,
        "weights_sha256": finding.weights_sha256 or None,
    }
    return json.dumps(members, separators=(",", ":"), sort_keys=True).encode()


async def test_finding_is_seen_by_its_partner_and_operators_and_by_nobody_else(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        finding = await filed(server)

        for who in (LAB, COLLEAGUE, OPERATOR):
            assert (await getting(server, finding.id, who)).finding == finding
            assert await ids(server, who) == [finding.id]
        for who in (OTHER_LAB, STRANGER):
            assert await told(getting(server, finding.id, who)) == await told(getting(server, "none", who))
            assert await ids(server, who) == []
            assert await ids(server, who, partner="example-lab") == []


async def test_strangers_finding_is_its_clients_alone(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        finding = await filed(server, STRANGER)

        assert (finding.partner, finding.agreement) == ("public", "")
        assert await ids(server, STRANGER) == await ids(server, OPERATOR, partner="public") == [finding.id]
        assert await ids(server, STRANGER, partner="public") == [finding.id]
        assert await ids(server, STRANGER, partner="example-lab") == []
        for who in (OTHER_STRANGER, LAB):
            assert (await refusal(getting(server, finding.id, who))).verdict == "NOT_FOUND FINDING_UNKNOWN"
            assert await ids(server, who) == []


async def test_reporter_is_a_pseudonym_that_outlives_the_server_and_its_audit_secret(tmp_path: Path) -> None:
    reporters = []
    for _ in range(2):
        async with serving(tmp_path, audit="off") as server:
            finding = await filed(server, STRANGER)
            reporters.append(finding.reporter)
            assert len(await ids(server, STRANGER)) == len(reporters)

    assert reporters[0] == reporters[1]
    assert len(reporters[0]) == 32


async def test_list_comes_page_by_page_the_newest_first(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        filed_ids = [(await filed(server, summary=f"number {number}")).id for number in range(3)]

        first = await listed(server, page_size=2)
        second = await listed(server, page_size=2, page_token=first.next_page_token)

        assert [each.id for each in (*first.findings, *second.findings)] == sorted(filed_ids, reverse=True)
        assert second.next_page_token == ""
        assert await ids(server, page_size=3) == sorted(filed_ids, reverse=True)


async def test_page_token_that_nobody_was_given_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        refused = await refusal(listing(server, STRANGER, page_token="["))

        assert refused.violations == {"page_token": "is a `next_page_token` of this caller; begin again without one"}


async def test_list_can_be_of_one_model(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        await filed(server)
        large = await filed(server, model="gpt2-774m")

        for who in (LAB, OPERATOR):
            assert await ids(server, who, model="gpt2-774m") == [large.id]


@pytest.mark.parametrize("model", ["gpt2-next", "gpt2-none", "gpt2-1558m"])
async def test_model_that_the_caller_may_not_know_of_is_refused_as_everywhere(tmp_path: Path, model: str) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        for who in (LAB, STRANGER):
            refused = await refusal(filing(server, who, model=model))

            assert refused.verdict == "PERMISSION_DENIED MODEL_NOT_RELEASED"
            assert refused.facts == {"stage": "s2"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "suspended"}, "AGREEMENT_NOT_ACTIVE"),
        ({"valid": {"from": "2025-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}}, "AGREEMENT_EXPIRED"),
        ({"networks": ["192.0.2.0/24"]}, "NETWORK_NOT_PERMITTED"),
        ({"token": {"max_lifetime": "60s"}}, "TOKEN_LIFETIME_EXCESSIVE"),
    ],
)
async def test_partner_whose_agreement_does_not_carry_the_call_neither_files_nor_reads(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    async with serving(tmp_path, agreements=[open_agreement(**changes)]) as server:
        for call in (filing(server), getting(server, "any"), listing(server)):
            assert (await refusal(call)).reason == reason


async def test_partner_whose_agreement_was_withdrawn_neither_files_nor_reads(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        await withdraw(server, WithdrawalTarget(agreement="agr-example-lab"))

        for call in (filing(server), getting(server, "any")):
            assert (await refusal(call)).verdict == "PERMISSION_DENIED AGREEMENT_WITHDRAWN"


@pytest.mark.parametrize(
    ("ask", "scope"),
    [
        (filing, "findings:write"),
        (lambda server, who: getting(server, "any", who), "findings:read"),
        (listing, "findings:read"),
        (lambda server, who: reviewing(server, "any", metadata=who), "findings:manage"),
        (asking_duties, "findings:manage"),
    ],
    ids=["create", "get", "list", "review", "duties"],
)
async def test_each_method_needs_its_scope(tmp_path: Path, ask: Any, scope: str) -> None:
    others = {"findings:write", "findings:read", "findings:manage"} - {scope}
    async with serving(tmp_path) as server:
        refused = await refusal(ask(server, bearer(scope=" ".join(sorted(others)))))

        assert refused.verdict == "PERMISSION_DENIED SCOPE_MISSING"
        assert refused.facts == {"required_scope": scope}


async def test_reporters_bound_says_when_there_is_room_and_binds_all_of_a_partners_clients(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS, findings={"reporter_per_day": 2}) as server:
        await filed(server)
        server.clock.now += 60
        await filed(server, COLLEAGUE)

        refused = await refusal(filing(server))

        assert refused.verdict == "RESOURCE_EXHAUSTED FINDING_RATE_LIMIT"
        assert refused.retry_after == DAY - 60
        assert "QuotaFailure" in refused.details
        assert await filed(server, OTHER_LAB)
        server.clock.now += DAY - 59
        renewed = bearer(scope=REPORTER, client_id="lab-app", iat=int(server.clock.now), exp=int(server.clock.now) + 60)
        assert await filed(server, renewed)


async def test_public_has_a_bound_of_its_own_that_keeps_no_partner_out(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS, findings={"public_per_day": 1}) as server:
        await filed(server, STRANGER)

        assert (await refusal(filing(server, OTHER_STRANGER))).reason == "FINDING_RATE_LIMIT"
        assert await filed(server)
        assert await filed(server, bearer(scope=REPORTER, client_id="eval-team"))


async def test_request_that_is_sent_again_files_nothing_more(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS, findings={"reporter_per_day": 1}) as server:
        first = await filed(server, client_request_id="mine-1")
        reviewed = (await reviewing(server, first.id)).finding

        assert await filed(server, client_request_id="mine-1") == reviewed
        assert await ids(server) == [first.id]


async def test_id_of_a_request_that_comes_with_another_report_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        await filed(server, client_request_id="mine-1")

        refused = await refusal(filing(server, client_request_id="mine-1", summary="other"))

        assert refused.violations == {"client_request_id": "has filed another finding; take a new one"}


async def test_id_of_another_reporters_request_is_free(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        found = [await filed(server, who, client_request_id="1") for who in (LAB, OTHER_LAB, STRANGER, OTHER_STRANGER)]

        assert len({each.id for each in found}) == 4


async def test_validate_only_files_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        checked = await filed(server, validate_only=True)

        assert checked.partner == "example-lab"
        assert await ids(server) == []


async def test_operators_review_is_seen_by_the_reporter_and_changes_no_digest(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        finding = await filed(server)

        await reviewing(server, finding.id, pb.FINDING_STATUS_REJECTED)
        server.clock.now += 5
        accepted = (await reviewing(server, finding.id)).finding

        assert (await getting(server, finding.id)).finding == accepted
        assert (accepted.status, accepted.review.justification) == (pb.FINDING_STATUS_ACCEPTED, "Seen here too.")
        assert accepted.review.review_time.seconds == NOW + 5
        assert accepted.sha256 == finding.sha256


async def test_review_can_be_checked_without_being_made(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        finding = await filed(server)

        await reviewing(server, finding.id, validate_only=True)

        assert (await getting(server, finding.id)).finding == finding


async def test_nobody_reviews_what_they_or_their_partner_filed(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        own, partners = await filed(server, OPERATOR), await filed(server)
        as_partner = bearer(scope="findings:manage", client_id="lab-eval")

        for call in (reviewing(server, own.id), reviewing(server, partners.id, metadata=as_partner)):
            assert set((await refusal(call)).violations) == {"id"}


async def test_finding_that_is_not_there_cannot_be_reviewed(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert (await refusal(reviewing(server, "none"))).verdict == "NOT_FOUND FINDING_UNKNOWN"


async def test_filing_and_review_stand_in_the_audit_log_without_what_was_written(
    tmp_path: Path, logs: list[MutableMapping[str, Any]]
) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS, metrics=METRICS) as server:
        finding = await filed(server, client_request_id=SECRET_WORDS)
        await filed(server, client_request_id=SECRET_WORDS)
        await reviewing(server, finding.id)
        metrics = await server.metrics()

    entries = [record.entry for record in records(tmp_path / AUDIT["directory"])]
    [filing_entry] = [entry for entry in entries if isinstance(entry, FindingFiled)]
    [review_entry] = [entry for entry in entries if isinstance(entry, FindingReviewed)]
    assert (filing_entry.id, filing_entry.sha256) == (finding.id, finding.sha256)
    assert (filing_entry.finding, filing_entry.partner, filing_entry.model) == ("bias", "example-lab", SMALL)
    assert (review_entry.id, review_entry.status, len(review_entry.by)) == (finding.id, "accepted", 1)
    assert metrics['sluicegate_findings_total{kind="bias",partner="example-lab"}'] == 1
    written = b"".join(path.read_bytes() for path in (tmp_path / AUDIT["directory"]).iterdir())
    for text in (written.decode(), repr(logs), repr(metrics)):
        assert SECRET_WORDS not in text


async def test_review_that_cannot_be_audited_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FailingDisk(monkeypatch)
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        finding = await filed(server)
        disk.is_full = True

        refused = await refusal(reviewing(server, finding.id))

        disk.is_full = False
        assert refused.reason == "AUDIT_UNAVAILABLE"
        assert (await getting(server, finding.id)).finding == finding


async def duty_of(server: Server, client: str = "lab-app") -> pb.FindingDuty | None:
    now = int(server.clock.now)
    metadata = bearer(client_id=client, scope=REPORTER, iat=now, exp=now + 600)
    answer: GetCallerIdentityResponse = await server.access.GetCallerIdentity(
        GetCallerIdentityRequest(), metadata=metadata
    )
    return answer.agreement.finding_duty if answer.agreement.HasField("finding_duty") else None


async def test_partner_learns_when_its_next_finding_is_due(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        before = await duty_of(server)
        finding = await filed(server)
        after = await duty_of(server)
        server.clock.now += 90 * DAY + 1
        late = await duty_of(server)

        assert before is not None
        assert before.due_time.ToJsonString() == "2026-04-20T00:00:00Z"  # 90 days after the begin of the term
        assert (before.HasField("last_finding_time"), before.overdue) == (False, False)
        assert after is not None
        assert after.last_finding_time == finding.create_time
        assert (after.due_every.seconds, after.due_time.seconds, after.overdue) == (90 * DAY, NOW + 90 * DAY, False)
        assert late is not None
        assert late.overdue


async def test_finding_that_was_rejected_fulfils_no_duty(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        first = await filed(server)
        server.clock.now += 30
        second = await filed(server)

        await reviewing(server, second.id, pb.FINDING_STATUS_REJECTED)

        duty = await duty_of(server)
        assert duty is not None
        assert duty.last_finding_time == first.create_time


async def test_who_has_no_duty_is_told_of_none(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        assert await duty_of(server, "other-app") is None
        assert await duty_of(server, "app") is None


async def test_operators_see_every_duty_in_force(tmp_path: Path) -> None:
    ended = {"from": "2025-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    others = [
        open_agreement(id=f"agr-{name}", partner=name, clients=[{"issuer": ISSUER, "client": f"{name}-app"}], **changes)
        for name, changes in (("lab-b", {"findings": {"due_every": "1d"}}), ("lab-c", {"valid": ended}))
    ]
    async with serving(tmp_path, agreements=[*AGREEMENTS, *others], metrics=METRICS) as server:
        answer = await asking_duties(server)

        found = [(each.agreement, each.partner, each.overdue) for each in answer.duties]
        assert found == [("agr-example-lab", "example-lab", False), ("agr-lab-b", "lab-b", True)]

        async def is_shown() -> bool:
            metrics = await server.metrics()
            overdue = [metrics[f'sluicegate_findings_overdue{{partner="{name}"}}'] for name in ("example-lab", "lab-b")]
            return overdue == [0, 1]

        await until(is_shown)


async def test_store_that_does_not_answer_is_told_and_leaves_identities_without_a_duty(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        with closing(sqlite3.connect(tmp_path / "sluicegate-state.db")) as connection:
            connection.execute("DROP TABLE findings")
        calls = [filing(server), getting(server, "any"), listing(server), asking_duties(server)]

        refused = [await refusal(call) for call in calls]

        assert [each.verdict for each in refused] == ["UNAVAILABLE STATE_UNAVAILABLE"] * 4
        assert await duty_of(server) is None


async def test_community_files_on_public_models_only(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), agreements=AGREEMENTS) as server:
        assert (await filed(server, STRANGER, model="gpt2-355m")).model == "gpt2-355m"
        refused: Refusal = await refusal(filing(server, STRANGER, model="gpt2-774m"))

        assert refused.code is grpc.StatusCode.PERMISSION_DENIED


async def test_partner_files_for_itself_on_public_models_that_its_agreement_leaves_out(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=AGREEMENTS) as server:
        finding = await filed(server, model="gpt2-355m")

        assert (finding.partner, finding.agreement) == ("example-lab", "agr-example-lab")
