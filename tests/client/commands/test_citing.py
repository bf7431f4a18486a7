"""`sluicegate finding cite`: the evidence has what was filed and reviewed, and none of the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from client_server import FakeServer
from client_terminal import sluicegate
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.evidence import FindingEvidence, read
from sluicegate.v1 import finding_service_pb2 as pb

ID = "019c1a52-5a80-7abc-8def-0123456789ab"


def finding(**changes: Any) -> pb.Finding:
    members: dict[str, Any] = {
        "id": ID,
        "sha256": "ab" * 32,
        "kind": pb.FINDING_KIND_BIAS,
        "model": "m",
        "severity": pb.FINDING_SEVERITY_HIGH,
        "summary": "A summary.",
        "details": "Details.",
        "create_time": Timestamp(seconds=1_770_000_000, nanos=5_000_000),
        "weights_sha256": "cd" * 32,
        "stage": "s2",
        "partner": "lab",
        "agreement": "agr-1",
        "reporter": "c0" * 16,
        "status": pb.FINDING_STATUS_ACCEPTED,
        "review": pb.FindingReview(review_time=Timestamp(seconds=1_770_000_100), justification="Seen here."),
    }
    return pb.Finding(**{name: value for name, value in {**members, **changes}.items() if value is not None})


@pytest.mark.parametrize(
    ("status", "review"), [(pb.FINDING_STATUS_ACCEPTED, "accepted"), (pb.FINDING_STATUS_REJECTED, "rejected")]
)
def test_a_reviewed_finding_is_cited(
    status: pb.FindingStatus.ValueType, review: str, server: FakeServer, tmp_path: Path
) -> None:
    server.will("GetFinding", [pb.GetFindingResponse(finding=finding(status=status))])
    path = tmp_path / "lab.json"

    result = sluicegate("finding", "cite", ID, "--output", path, "--target", server.target)

    found, sha256 = read(path, FindingEvidence)
    assert (result.exit_code, result.stdout) == (0, f"{path}\n  sha256 {sha256}\n")
    assert (found.finding, found.finding_sha256, found.partner, found.review) == (ID, "ab" * 32, "lab", review)
    assert (found.subject.model, found.subject.weights_sha256) == ("m", "cd" * 32)
    assert (found.kind, found.severity, found.agreement) == ("bias", "high", "agr-1")
    assert (int(found.began.timestamp()), int(found.ended.timestamp())) == (1_770_000_000, 1_770_000_100)
    assert not any(word in path.read_bytes() for word in (b"summary", b"Details", b"Seen"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"review": None, "status": pb.FINDING_STATUS_OPEN}, "no operator has reviewed"),
        ({"agreement": ""}, "was filed under no agreement"),
        ({"weights_sha256": ""}, "is about no weights"),
    ],
)
def test_what_no_stage_could_rest_on_is_not_written(
    changes: dict[str, Any], text: str, server: FakeServer, tmp_path: Path
) -> None:
    server.will("GetFinding", [pb.GetFindingResponse(finding=finding(**changes))])

    result = sluicegate("finding", "cite", ID, "--output", tmp_path / "lab.json", "--target", server.target)

    assert result.exit_code == 2
    assert text in result.stderr
    assert not list(tmp_path.iterdir())


def test_no_file_is_written_over(server: FakeServer, tmp_path: Path) -> None:
    server.will("GetFinding", [pb.GetFindingResponse(finding=finding())])
    (tmp_path / "lab.json").write_text("other")

    result = sluicegate("finding", "cite", ID, "--output", tmp_path / "lab.json", "--target", server.target)

    assert (result.exit_code, (tmp_path / "lab.json").read_text()) == (2, "other")
    assert "is there already" in result.stderr
