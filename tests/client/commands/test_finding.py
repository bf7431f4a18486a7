"""`sluicegate finding`, against a scripted server."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import grpc
import pytest
from client_server import FakeServer, Refusal
from client_terminal import sluicegate
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.v1 import finding_service_pb2 as pb
from sluicegate.v1.access_service_pb2 import AgreementTerms, GetCallerIdentityResponse

TIME = Timestamp(seconds=1_770_000_000)
MESSAGE = pb.Finding(
    id="f-1",
    sha256="ab" * 32,
    kind=pb.FINDING_KIND_BIAS,
    model="m",
    severity=pb.FINDING_SEVERITY_HIGH,
    summary="It prefers\x1b[2J one.",
    details="Of 60 pairs\x1b[2J 41.\nSee the file.\n",
    attachments=[pb.Attachment(name="pairs.csv", media_type="text/csv", size_bytes=5_120, sha256="0f" * 32)],
    create_time=TIME,
    stage="s2",
    partner="lab",
    agreement="agr-1",
    reporter="c0" * 16,
    status=pb.FINDING_STATUS_ACCEPTED,
    review=pb.FindingReview(review_time=TIME, justification="Seen here."),
)
NEW = ("finding", "new", "--model", "m", "--kind", "bias", "--severity", "high", "--summary", "It prefers one.")


def asked(server: FakeServer) -> pb.CreateFindingRequest:
    return server.calls[-1].asked(pb.CreateFindingRequest)


@pytest.fixture
def filing(server: FakeServer) -> FakeServer:
    server.will("CreateFinding", [pb.CreateFindingResponse(finding=MESSAGE)])
    return server


def test_a_finding_is_filed_and_said_for_whom(filing: FakeServer) -> None:
    result = sluicegate(*NEW, "--client-request-id", "mine-1", "--target", filing.target)

    assert (result.exit_code, result.stdout) == (0, f"filed f-1 for lab under agr-1\n  sha256 {'ab' * 32}\n")
    assert asked(filing) == pb.CreateFindingRequest(
        model="m",
        kind=pb.FINDING_KIND_BIAS,
        severity=pb.FINDING_SEVERITY_HIGH,
        summary="It prefers one.",
        client_request_id="mine-1",
    )


def test_attached_files_are_sent_by_name_type_size_and_digest_alone(filing: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/pairs.csv").write_bytes(b"he,she\n" * 300_000)
    (tmp_path / "notes").write_bytes(b"")

    result = sluicegate(
        *NEW,
        "--attach",
        tmp_path / "folder/pairs.csv",
        "--attach",
        tmp_path / "notes",
        "--target",
        filing.target,
    )

    assert result.exit_code == 0
    assert list(asked(filing).attachments) == [
        pb.Attachment(
            name="pairs.csv",
            media_type="text/csv",
            size_bytes=2_100_000,
            sha256=hashlib.sha256(b"he,she\n" * 300_000).hexdigest(),
        ),
        pb.Attachment(
            name="notes", media_type="application/octet-stream", size_bytes=0, sha256=hashlib.sha256().hexdigest()
        ),
    ]


def test_details_come_from_a_file_or_from_standard_input(filing: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "details.txt").write_text("Of 60 pairs 41.\n", encoding="utf-8")

    sluicegate(*NEW, "--details", tmp_path / "details.txt", "--target", filing.target)
    sluicegate(*NEW, "--details", "-", "--target", filing.target, text="Of 60 pairs 42.\n")

    details = [call.asked(pb.CreateFindingRequest).details for call in filing.calls]
    assert details == ["Of 60 pairs 41.\n", "Of 60 pairs 42.\n"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"x" * 8_193, "is over 8192 bytes: attach it instead"), (b"\xff", "is not UTF-8 text"), (None, "cannot be read")],
)
def test_details_that_no_server_would_take_are_refused_here(
    filing: FakeServer, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "details.txt").write_bytes(content)

    result = sluicegate(*NEW, "--details", tmp_path / "details.txt", "--target", filing.target)

    assert result.exit_code == 2
    assert problem in result.stderr
    assert filing.calls == []


def test_a_file_that_cannot_be_attached_is_named(filing: FakeServer, tmp_path: Path) -> None:
    result = sluicegate(*NEW, "--attach", tmp_path / "missing.csv", "--target", filing.target)

    assert result.exit_code == 2
    assert "missing.csv cannot be read" in result.stderr
    assert filing.calls == []


def test_a_dry_run_files_nothing_and_names_no_id(filing: FakeServer) -> None:
    shown = sluicegate(*NEW, "--dry-run", "--target", filing.target)
    for_scripts = sluicegate(*NEW, "--dry-run", "--json", "--target", filing.target)

    assert shown.stdout == "would be filed for lab under agr-1\n"
    assert (json.loads(for_scripts.stdout)["id"], json.loads(for_scripts.stdout)["sha256"]) == (None, None)
    assert [call.asked(pb.CreateFindingRequest).validate_only for call in filing.calls] == [True, True]


def test_scripts_get_the_finding_that_was_filed(filing: FakeServer) -> None:
    result = sluicegate(*NEW, "--json", "--target", filing.target)

    found = json.loads(result.stdout)
    assert (found["id"], found["kind"], found["created"]) == ("f-1", "BIAS", "2026-02-02T02:40:00+00:00")
    assert found["attachments"][0]["sha256"] == "0f" * 32


def test_too_many_findings_end_with_the_code_of_quotas(server: FakeServer) -> None:
    full = Refusal(code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="FINDING_RATE_LIMIT", retry_after=60)
    server.will("CreateFinding", [full])

    result = sluicegate(*NEW, "--target", server.target)

    assert result.exit_code == 5
    assert "the server names 60 s as the time to wait" in result.stderr


def test_the_list_has_a_line_for_each_finding(server: FakeServer) -> None:
    server.will("ListFindings", [pb.ListFindingsResponse(findings=[MESSAGE])])

    result = sluicegate("finding", "list", "--model", "m", "--partner", "lab", "--target", server.target)

    heading, row = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert heading == ["id", "filed", "by", "model", "kind", "severity", "status", "summary"]
    assert (row[:4], row[4:9]) == (["f-1", "2026-02-02", "02:40:00", "UTC"], ["lab", "m", "bias", "high", "accepted"])
    assert " ".join(row[9:]) == "It prefers[2J one."
    assert server.calls[0].request == pb.ListFindingsRequest(page_size=100, model="m", partner="lab")


def test_an_empty_list_is_said(server: FakeServer) -> None:
    server.will("ListFindings", [pb.ListFindingsResponse()])

    assert sluicegate("finding", "list", "--target", server.target).stdout == "no findings\n"
    assert sluicegate("finding", "list", "--json", "--target", server.target).stdout == "[]\n"


def test_a_finding_is_shown_whole(server: FakeServer) -> None:
    server.will("GetFinding", [pb.GetFindingResponse(finding=MESSAGE)])

    result = sluicegate("finding", "show", "f-1", "--target", server.target)

    rows = [" ".join(line.split()) for line in result.stdout.splitlines() if line.strip()]
    assert rows == [
        "finding f-1",
        f"sha256 {'ab' * 32}",
        f"filed 2026-02-02 02:40:00 UTC, by lab under agr-1 ({'c0' * 16})",
        "model m, weights unknown, at stage s2",
        "about bias, high",
        "summary It prefers[2J one.",
        f"attached pairs.csv (text/csv, 5,120 bytes) {'0f' * 32}",
        "status accepted",
        "review 2026-02-02 02:40:00 UTC: Seen here.",
        "Of 60 pairs\x1b[2J 41.",  # into a file as it is; a terminal gets it without what would steer it
        "See the file.",
    ]


def test_a_finding_that_is_not_the_callers_ends_with_1(server: FakeServer) -> None:
    server.will("GetFinding", [Refusal(code=grpc.StatusCode.NOT_FOUND, reason="FINDING_UNKNOWN")])

    result = sluicegate("finding", "show", "f-1", "--target", server.target)

    assert result.exit_code == 1
    assert "`sluicegate finding list`" in result.stderr


@pytest.mark.parametrize(("more", "says"), [((), "f-1 is accepted\n"), (("--dry-run",), "f-1 would be accepted\n")])
def test_an_operator_reviews(server: FakeServer, more: tuple[str, ...], says: str) -> None:
    server.will("ReviewFinding", [pb.ReviewFindingResponse(finding=MESSAGE)])
    options = ("--status", "accepted", "--justification", "Seen here.", *more)

    result = sluicegate("finding", "review", "f-1", *options, "--target", server.target)

    assert (result.exit_code, result.stdout) == (0, says)
    assert server.calls[0].request == pb.ReviewFindingRequest(
        id="f-1", status=pb.FINDING_STATUS_ACCEPTED, justification="Seen here.", validate_only=bool(more)
    )


LATE = pb.FindingDuty(
    agreement="agr-1", partner="lab", due_every=Duration(seconds=90 * 86_400), due_time=TIME, overdue=True
)


def test_duties_are_a_table(server: FakeServer) -> None:
    done = pb.FindingDuty(
        agreement="agr-2", partner="lab-b", due_every=Duration(seconds=43_200), last_finding_time=TIME, due_time=TIME
    )
    server.will("ListFindingDuties", [pb.ListFindingDutiesResponse(duties=[LATE, done])])

    result = sluicegate("finding", "duties", "--target", server.target)

    heading, first, second = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert heading == ["agreement", "partner", "every", "last", "due"]
    assert first == ["agr-1", "lab", "90", "d", "none", "2026-02-02", "02:40:00", "UTC", "overdue"]
    assert second == ["agr-2", "lab-b", "0.5", "d", "2026-02-02", "02:40:00", "UTC", "2026-02-02", "02:40:00", "UTC"]


def test_scripts_get_duties_in_seconds(server: FakeServer) -> None:
    server.will("ListFindingDuties", [pb.ListFindingDutiesResponse(duties=[LATE])])

    result = sluicegate("finding", "duties", "--json", "--target", server.target)

    [duty] = json.loads(result.stdout)
    assert (duty["due_every_seconds"], duty["last_finding"], duty["is_overdue"]) == (7_776_000, None, True)


def test_no_duty_is_said(server: FakeServer) -> None:
    server.will("ListFindingDuties", [pb.ListFindingDutiesResponse()])

    result = sluicegate("finding", "duties", "--target", server.target)

    assert result.stdout == "no agreement in force asks for findings\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_whoami_says_when_the_next_finding_is_due(server: FakeServer, as_json: bool) -> None:
    terms = AgreementTerms(id="agr-1", partner="lab", status="active", finding_duty=LATE)
    server.will("GetCallerIdentity", [GetCallerIdentityResponse(issuer="i", agreement=terms)])

    result = sluicegate("whoami", *(("--json",) if as_json else ()), "--target", server.target)

    if as_json:
        assert json.loads(result.stdout)["agreement"]["finding_duty"]["is_overdue"]
    else:
        assert "2026-02-02 02:40:00 UTC, overdue" in result.stdout
