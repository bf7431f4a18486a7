"""Findings through the clients, asynchronous and not, against a scripted server."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import grpc
import pytest
from client_server import FakeServer, Refusal
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.client import (
    Attachment,
    Client,
    Finding,
    FindingDuty,
    FindingKind,
    FindingReview,
    FindingSeverity,
    FindingStatus,
    InvalidRequest,
    QuotaExceeded,
    SyncClient,
)
from sluicegate.client.finding_wire import create_request
from sluicegate.v1 import finding_service_pb2 as pb

TIME = Timestamp(seconds=1_770_000_000, nanos=123_000_000)
THEN = datetime(2026, 2, 2, 2, 40, 0, 123_000, tzinfo=UTC)
PLOT = Attachment("pairs.csv", "text/csv", 5_120, "0f" * 32)
MESSAGE = pb.Finding(
    id="f-1",
    sha256="ab" * 32,
    kind=pb.FINDING_KIND_BIAS,
    model="m",
    severity=pb.FINDING_SEVERITY_HIGH,
    summary="It prefers one.",
    details="Of 60 pairs 41.",
    attachments=[pb.Attachment(name="pairs.csv", media_type="text/csv", size_bytes=5_120, sha256="0f" * 32)],
    create_time=TIME,
    weights_sha256="cd" * 32,
    stage="s2",
    partner="example-lab",
    agreement="agr-1",
    reporter="c0" * 16,
    status=pb.FINDING_STATUS_ACCEPTED,
    review=pb.FindingReview(review_time=TIME, justification="Seen here."),
)
FINDING = Finding(
    id="f-1",
    sha256="ab" * 32,
    kind=FindingKind.BIAS,
    model="m",
    severity=FindingSeverity.HIGH,
    summary="It prefers one.",
    details="Of 60 pairs 41.",
    attachments=(PLOT,),
    created=THEN,
    weights_sha256="cd" * 32,
    stage="s2",
    partner="example-lab",
    agreement="agr-1",
    reporter="c0" * 16,
    status=FindingStatus.ACCEPTED,
    review=FindingReview(THEN, "Seen here."),
)
DUTY = pb.FindingDuty(agreement="agr-1", partner="lab", due_every=Duration(seconds=86_400), due_time=TIME, overdue=True)


@pytest.mark.parametrize("validate_only", [False, True])
async def test_a_finding_is_filed_with_all_that_was_given(server: FakeServer, validate_only: bool) -> None:
    server.will("CreateFinding", [pb.CreateFindingResponse(finding=MESSAGE)])

    async with Client(server.target) as client:
        filed = await client.create_finding(
            "m",
            FindingKind.BIAS,
            FindingSeverity.HIGH,
            "It prefers one.",
            details="Of 60 pairs 41.",
            attachments=[PLOT],
            client_request_id="mine-1",
            validate_only=validate_only,
        )

    assert filed == FINDING
    assert server.calls[0].request == pb.CreateFindingRequest(
        kind=pb.FINDING_KIND_BIAS,
        model="m",
        severity=pb.FINDING_SEVERITY_HIGH,
        summary="It prefers one.",
        details="Of 60 pairs 41.",
        attachments=MESSAGE.attachments,
        client_request_id="mine-1",
        validate_only=validate_only,
    )


async def test_a_filing_that_is_tried_again_goes_under_the_same_id_and_another_one_does_not(server: FakeServer) -> None:
    gone = Refusal(code=grpc.StatusCode.UNAVAILABLE, reason="STATE_UNAVAILABLE", pushback_ms="1")
    server.will("CreateFinding", [gone], [pb.CreateFindingResponse(finding=MESSAGE)])

    async with Client(server.target) as client:
        for _ in range(2):
            await client.create_finding("m", FindingKind.OTHER, FindingSeverity.LOW, "Odd.")

    first, again, other = [call.asked(pb.CreateFindingRequest).client_request_id for call in server.calls]
    assert uuid.UUID(first).version == 4
    assert first == again != other


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"kind": "BIAS"}, "kind", "must be a member of the enum that `sluicegate.client` has for it"),
        ({"kind": FindingSeverity.LOW}, "kind", "must be a member of the enum that `sluicegate.client` has for it"),
        ({"severity": None}, "severity", "must be a member of the enum that `sluicegate.client` has for it"),
        ({"summary": "\ud800"}, "summary", "must be text that can be written as UTF-8"),
        (
            {"attachments": [Attachment("a", "text/csv", -1, "0" * 64)]},
            "attachments.size_bytes",
            f"must be a whole number from 0 to {2**64 - 1}",
        ),
    ],
)
def test_what_no_message_can_carry_is_refused_by_its_field(changes: dict[str, Any], field: str, rule: str) -> None:
    given: dict[str, Any] = {"kind": FindingKind.BIAS, "severity": FindingSeverity.LOW, "summary": "x", "details": ""}
    given |= {"attachments": (), "client_request_id": "", "validate_only": False, **changes}

    with pytest.raises(InvalidRequest) as caught:
        create_request("m", **given)

    assert [(each.field, each.description) for each in caught.value.field_violations] == [(field, rule)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(FindingKind, pb.FindingKind), (FindingSeverity, pb.FindingSeverity), (FindingStatus, pb.FindingStatus)],
)
def test_every_name_of_the_api_has_a_member(ours: type[StrEnum], theirs: Any) -> None:
    prefix = theirs.Name(0).removesuffix("UNSPECIFIED")

    assert [f"{prefix}{each.value}" for each in ours] == theirs.keys()


async def test_what_only_newer_servers_know_is_unspecified(server: FakeServer) -> None:
    newer = pb.Finding.FromString(MESSAGE.SerializeToString() + b"\x18\x63\x28\x63\x78\x63")
    server.will("GetFinding", [pb.GetFindingResponse(finding=newer)])

    async with Client(server.target) as client:
        found = await client.get_finding("f-1")

    assert (found.kind, found.severity, found.status) == (
        FindingKind.UNSPECIFIED,
        FindingSeverity.UNSPECIFIED,
        FindingStatus.UNSPECIFIED,
    )


async def test_a_finding_that_is_not_the_callers_to_see_is_an_invalid_request(server: FakeServer) -> None:
    server.will("GetFinding", [Refusal(code=grpc.StatusCode.NOT_FOUND, reason="FINDING_UNKNOWN")])

    async with Client(server.target) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.get_finding("f-1")

    assert caught.value.remedy == "use an id that `sluicegate finding list` shows"


async def test_too_many_findings_are_told_with_the_time_to_wait(server: FakeServer) -> None:
    full = Refusal(code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="FINDING_RATE_LIMIT", retry_after=3_600)
    server.will("CreateFinding", [full])

    async with Client(server.target) as client:
        with pytest.raises(QuotaExceeded) as caught:
            await client.create_finding("m", FindingKind.OTHER, FindingSeverity.LOW, "Odd.")

    assert caught.value.retry_after == 3_600


async def test_findings_of_all_pages_are_one_list(server: FakeServer) -> None:
    pages = (
        pb.ListFindingsResponse(findings=[MESSAGE], next_page_token="two"),
        pb.ListFindingsResponse(findings=[pb.Finding(id="f-2", create_time=TIME)]),
    )
    server.will("ListFindings", [pages[0]], [pages[1]])

    async with Client(server.target) as client:
        found = await client.list_findings(model="m", partner="lab")

    assert [each.id for each in found] == ["f-1", "f-2"]
    assert (found[1].agreement, found[1].review, found[1].weights_sha256) == (None, None, "")
    assert [call.request for call in server.calls] == [
        pb.ListFindingsRequest(page_size=100, page_token=token, model="m", partner="lab") for token in ("", "two")
    ]


async def test_duties_of_all_pages_are_one_list(server: FakeServer) -> None:
    done = pb.FindingDuty(agreement="agr-2", due_every=Duration(seconds=60), last_finding_time=TIME, due_time=TIME)
    server.will(
        "ListFindingDuties",
        [pb.ListFindingDutiesResponse(duties=[DUTY], next_page_token="two")],
        [pb.ListFindingDutiesResponse(duties=[done])],
    )

    async with Client(server.target) as client:
        found = await client.list_finding_duties()

    assert found == (
        FindingDuty("agr-1", "lab", 86_400, None, THEN, is_overdue=True),
        FindingDuty("agr-2", "", 60, THEN, THEN, is_overdue=False),
    )


@pytest.mark.parametrize("validate_only", [False, True])
async def test_an_operator_reviews_a_finding(server: FakeServer, validate_only: bool) -> None:
    server.will("ReviewFinding", [pb.ReviewFindingResponse(finding=MESSAGE)])

    async with Client(server.target) as client:
        found = await client.review_finding("f-1", FindingStatus.ACCEPTED, "Seen here.", validate_only=validate_only)

    assert found == FINDING
    assert server.calls[0].request == pb.ReviewFindingRequest(
        id="f-1", status=pb.FINDING_STATUS_ACCEPTED, justification="Seen here.", validate_only=validate_only
    )


def test_every_method_answers_without_an_event_loop_as_with_one(server: FakeServer) -> None:
    server.will("CreateFinding", [pb.CreateFindingResponse(finding=MESSAGE)])
    server.will("GetFinding", [pb.GetFindingResponse(finding=MESSAGE)])
    server.will("ListFindings", [pb.ListFindingsResponse(findings=[MESSAGE])])
    server.will("ReviewFinding", [pb.ReviewFindingResponse(finding=MESSAGE)])
    server.will("ListFindingDuties", [pb.ListFindingDutiesResponse(duties=[DUTY])])

    with SyncClient(server.target) as client:
        filed = client.create_finding(
            "m",
            FindingKind.BIAS,
            FindingSeverity.HIGH,
            "x",
            details="y",
            attachments=[PLOT],
            client_request_id="1",
            validate_only=True,
        )
        found = client.list_findings(model="m", partner="lab")
        assert filed == client.get_finding("f-1") == found[0] == FINDING
        assert client.review_finding("f-1", FindingStatus.REJECTED, "No.", validate_only=True) == FINDING
        [duty] = client.list_finding_duties()

    assert duty.is_overdue
    create, listing, _, review, _ = [call.request for call in server.calls]
    assert create == pb.CreateFindingRequest(
        model="m",
        kind=pb.FINDING_KIND_BIAS,
        severity=pb.FINDING_SEVERITY_HIGH,
        summary="x",
        details="y",
        attachments=MESSAGE.attachments,
        client_request_id="1",
        validate_only=True,
    )
    assert listing == pb.ListFindingsRequest(page_size=100, model="m", partner="lab")
    assert review == pb.ReviewFindingRequest(
        id="f-1", status=pb.FINDING_STATUS_REJECTED, justification="No.", validate_only=True
    )
