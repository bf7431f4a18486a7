from __future__ import annotations

import evidence_files as made
from policies import policy, release
from report_logs import PERIOD

from sluicegate.evidence import NO_EVIDENCE, Evidence, EvidenceSet, Filed
from sluicegate.server.report.events import EventBook
from sluicegate.server.report.figures import CitedEvidence
from sluicegate.server.report.release import planned_rows, requirement_rows

MODEL = "gpt2-774m"
PINNED = "0" * 63 + "1"


def files(*evidence: Evidence) -> EvidenceSet:
    return EvidenceSet(tuple(Filed(each, f"{at}" * 64, f"{at}.json") for at, each in enumerate(evidence)))


def states(evidence: EvidenceSet) -> dict[str, tuple[str, str | None]]:
    """State and file of what s3 requires, by the requirement."""
    return {row.requirement: (row.state, row.evidence_sha256) for row in requirement_rows(policy(), evidence)}


def test_requirements_are_held_against_the_evidence() -> None:
    even, biased = made.bias(MODEL, weights=PINNED), made.bias(MODEL, stereotype=80, other=20, weights=PINNED)

    assert states(NO_EVIDENCE) == {"bias": ("missing", None), "finding:example-lab": ("missing", None)}
    assert states(files(even, made.finding(MODEL, weights=PINNED))) == {
        "bias": ("met", "0" * 64),
        "finding:example-lab": ("met", "1" * 64),
    }
    assert states(files(biased))["bias"] == ("failed", "0" * 64)


def test_steps_of_the_period_are_told_with_the_evidence_that_they_cite() -> None:
    steps = [
        {"from": "s1", "to": "s2", "at": "2026-09-30T00:00:00Z"},
        {
            "from": "s2",
            "to": "s3",
            "at": "2026-10-02T00:00:00Z",
            "by": ["release-lead", "safety-lead"],
            "evidence_sha256": ["0" * 64, "f" * 64],
        },
    ]

    [row] = planned_rows(policy(release(transitions=steps)), files(made.watermark(MODEL)), EventBook(PERIOD), PERIOD)

    assert (row.from_stage, row.to_stage, row.signers, row.is_in_logs) == ("s2", "s3", 2, False)
    assert row.evidence == (CitedEvidence("0" * 64, f"watermark of {MODEL}"), CitedEvidence("f" * 64, None))
