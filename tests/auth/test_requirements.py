"""Opening a stage on evidence: what signers cited must be there, about these weights, and good."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import evidence_files as made
import pytest
from policies import Document, contents, release
from signers import SIGNERS, TRUST, sign_transitions

from sluicegate.auth import Policy, PolicyError, RequirementState, judge, plan_digest, sign, stage_requirements
from sluicegate.auth.loading import parse_draft, parse_policy
from sluicegate.evidence import Evidence, EvidenceSet, digest, encode, read_directory

MODEL = "gpt2-774m"


def plan() -> Document:
    """s3 asks for a gate and a finding, s2 for another gate; at the first stage."""
    document = release(internal={"clients": []}, active="s1", transitions=[])
    for model in (MODEL, "gpt2-355m"):
        document["models"][model]["weights_sha256"] = made.WEIGHTS
    document["gates"]["recital"] = {"evidence": "memorisation", "most_matched": "1%"}
    document["stages"][1]["requires"] = [{"gate": "recital", "model": "gpt2-355m"}]
    return document


def walk(document: Document, *steps: tuple[str, str, Sequence[Evidence]]) -> Document:
    """A plan with these steps, each citing evidence and signed by two, at the last one's stage."""
    document = copy.deepcopy(document)
    for day, (before, after, cited) in enumerate(steps, start=11):
        document["transitions"].append(
            {
                "from": before,
                "to": after,
                "at": f"2026-01-{day}T00:00:00Z",
                "plan_sha256": plan_digest(document),
                "evidence_sha256": [digest(encode(each)) for each in cited],
            }
        )
    sign_transitions(document)
    document["active"] = steps[-1][1]
    return document


def evidence_in(directory: Path, *evidence: Evidence) -> EvidenceSet:
    for each in evidence:
        made.write(directory, f"{digest(encode(each))[:8]}.json", each)
    return read_directory(directory)


def loaded(document: Document, evidence: EvidenceSet) -> Policy:
    return parse_policy(Path("/policy"), contents(document), TRUST, evidence)


def problems(document: Document, evidence: EvidenceSet) -> list[str]:
    with pytest.raises(PolicyError) as refused:
        loaded(document, evidence)
    return [str(each) for each in refused.value.problems]


RECITAL = made.memorisation("gpt2-355m")
BIAS, FINDING = made.bias(MODEL), made.finding(MODEL)


def test_a_stage_opens_on_what_its_signers_cited(tmp_path: Path) -> None:
    document = walk(plan(), ("s1", "s2", [RECITAL]), ("s2", "s3", [BIAS, FINDING]))

    assert loaded(document, evidence_in(tmp_path, RECITAL, BIAS, FINDING)).stage.id == "s3"


def test_evidence_of_stages_before_is_not_asked_for_again(tmp_path: Path) -> None:
    document = walk(plan(), ("s1", "s2", [RECITAL]), ("s2", "s3", [BIAS, FINDING]))

    assert loaded(document, evidence_in(tmp_path, BIAS, FINDING)).stage.id == "s3"


def test_what_is_not_cited_or_not_there_is_missing_and_each_is_named(tmp_path: Path) -> None:
    not_cited = walk(plan(), ("s1", "s2", [RECITAL]), ("s2", "s3", [BIAS]))
    not_there = walk(plan(), ("s1", "s2", [RECITAL]), ("s2", "s3", [BIAS, FINDING]))

    for document, evidence, name in (
        (not_cited, evidence_in(tmp_path / "a", RECITAL, BIAS, FINDING), "finding:example-lab"),
        (not_there, evidence_in(tmp_path / "b", RECITAL, FINDING), "bias"),
    ):
        [problem] = problems(document, evidence)
        assert problem.startswith(f"release.yaml: transitions.1.evidence_sha256: requirement {name} of {MODEL}: no ")
        assert "the transition must cite the digest, and the file must be in evidence/" in problem


def test_evidence_that_does_not_pass_opens_nothing_though_two_signed_it(tmp_path: Path) -> None:
    bad = made.bias(MODEL, stereotype=90, other=10)
    document = walk(plan(), ("s1", "s2", [RECITAL]), ("s2", "s3", [bad, FINDING]))

    [problem] = problems(document, evidence_in(tmp_path, bad, BIAS, FINDING))
    assert "90 % of pairs prefer the stereotype" in problem


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (made.finding(MODEL, review="rejected"), "the finding of example-lab was rejected"),
        (made.finding(MODEL, partner="other-lab"), "no finding of example-lab on these weights"),
        (made.finding(MODEL, weights="9" * 64), "no finding of example-lab on these weights"),
        (made.finding("gpt2-355m"), "no finding of example-lab on these weights"),
        (made.finding(MODEL, ended=datetime(2026, 2, 1, tzinfo=UTC)), "no finding of example-lab on these weights"),
    ],
)
def test_a_finding_of_another_kind_is_none(finding: Evidence, text: str, tmp_path: Path) -> None:
    document = walk(plan(), ("s1", "s2", [RECITAL]), ("s2", "s3", [BIAS, finding]))

    [problem] = problems(document, evidence_in(tmp_path, BIAS, finding))
    assert text in problem


def test_a_step_over_a_stage_asks_for_what_that_stage_requires_too(tmp_path: Path) -> None:
    over, whole = [BIAS, FINDING], [BIAS, FINDING, RECITAL]
    evidence = evidence_in(tmp_path, *whole)

    [problem] = problems(walk(plan(), ("s1", "s3", over)), evidence)
    assert "requirement recital of gpt2-355m" in problem
    assert loaded(walk(plan(), ("s1", "s3", whole)), evidence).stage.id == "s3"


def test_going_back_and_forth_again_asks_for_evidence_anew(tmp_path: Path) -> None:
    evidence = evidence_in(tmp_path, RECITAL, BIAS, FINDING)
    steps: list[tuple[str, str, Sequence[Evidence]]]
    steps = [("s1", "s2", [RECITAL]), ("s2", "s3", [BIAS, FINDING]), ("s3", "s1", []), ("s1", "s2", [])]

    [problem] = problems(walk(plan(), *steps), evidence)
    assert problem.startswith("release.yaml: transitions.3.evidence_sha256")
    assert loaded(walk(plan(), *steps[:3]), evidence_in(tmp_path / "none")).stage.id == "s1"


def test_a_changed_plan_keeps_the_evidence_that_its_stage_was_opened_on(tmp_path: Path) -> None:
    opened = (("s1", "s2", [RECITAL]), ("s2", "s3", [BIAS, FINDING]))
    evidence = evidence_in(tmp_path, BIAS, FINDING)
    stricter = plan()
    stricter["gates"]["bias"]["share_between"] = ["45%", "55%"]

    assert loaded(walk(plan(), *opened, ("s3", "s3", [])), evidence).stage.id == "s3"
    [problem] = problems(walk(stricter, *opened, ("s3", "s3", [])), evidence)
    assert "it must lie within 45 % to 55 %" in problem
    better = made.bias(MODEL, stereotype=500, other=500, ended=made.ENDED + timedelta(hours=1))
    evidence = evidence_in(tmp_path, better)
    assert loaded(walk(stricter, *opened, ("s3", "s3", [better])), evidence).stage.id == "s3"


def test_the_first_stage_of_a_deployment_needs_no_evidence(tmp_path: Path) -> None:
    document = plan()
    document["stages"][0]["requires"] = [{"gate": "bias", "model": MODEL}]

    assert loaded(document, evidence_in(tmp_path)).stage.id == "s1"


def forge(document: Document) -> None:
    document["transitions"][1]["signatures"][0] = sign(SIGNERS["legal-lead"], b"another payload")


def replay(document: Document) -> None:
    document["transitions"][1]["signatures"] = list(document["transitions"][0]["signatures"])


def reorder(document: Document) -> None:
    document["transitions"][1]["signatures"].reverse()


def approve_oneself(document: Document) -> None:
    document["transitions"][1]["by"] = ["release-lead", "release-lead"]
    document["transitions"][1]["signatures"] = [document["transitions"][1]["signatures"][0]] * 2


def sign_alone(document: Document) -> None:
    step = document["transitions"][1]
    step["by"], step["signatures"] = step["by"][:1], step["signatures"][:1]


def cite_other(document: Document) -> None:
    document["transitions"][1]["evidence_sha256"].reverse()


def cite_more(document: Document) -> None:
    document["transitions"][1]["evidence_sha256"].append("0" * 64)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (forge, "transitions.1: the signature of release-lead does not hold"),
        (replay, "transitions.1: the signature of release-lead does not hold"),
        (reorder, "transitions.1: the signature of release-lead does not hold"),
        (approve_oneself, "transitions.1.by: an entry stands here twice"),
        (sign_alone, "transitions.1: opens wider, so it needs the signatures of 2 signers"),
        (cite_other, "transitions.1: the signature of release-lead does not hold"),
        (cite_more, "transitions.1: the signature of release-lead does not hold"),
    ],
)
def test_signatures_over_something_else_are_refused_with_the_reason(
    change: Callable[[Document], None], text: str, tmp_path: Path
) -> None:
    document = walk(plan(), ("s1", "s2", [RECITAL]), ("s2", "s3", [BIAS, FINDING]))
    change(document)

    assert text in "\n".join(problems(document, evidence_in(tmp_path, RECITAL, BIAS, FINDING)))


def test_evidence_that_was_tampered_with_is_not_what_was_cited(tmp_path: Path) -> None:
    document = walk(plan(), ("s1", "s2", [RECITAL]), ("s2", "s3", [BIAS, FINDING]))
    evidence_in(tmp_path, RECITAL, BIAS, FINDING)
    path = next(each for each in tmp_path.iterdir() if b'"suite"' in each.read_bytes())

    path.write_bytes(path.read_bytes().replace(b'"p0"', b'"q0"'))
    [problem] = problems(document, read_directory(tmp_path))
    assert f"requirement bias of {MODEL}: no evidence" in problem


def test_without_signatures_evidence_decides_nothing(tmp_path: Path) -> None:
    document = plan()
    document["active"] = "s3"

    assert parse_policy(Path("/policy"), contents(document), None, evidence_in(tmp_path)).stage.id == "s3"


def test_requirements_of_a_stage_are_those_of_all_before_it() -> None:
    found = parse_draft(contents(plan())).plan

    assert [each.name for each in stage_requirements(found, "s3")] == ["recital", "bias", "finding:example-lab"]
    assert [each.name for each in stage_requirements(found, "s3", since="s2")] == ["bias", "finding:example-lab"]
    assert not stage_requirements(found, "s1")


def test_without_a_time_neither_age_nor_order_counts(tmp_path: Path) -> None:
    document = plan()
    document["gates"]["bias"]["max_age"] = "1d"
    found = parse_draft(contents(document)).plan
    evidence = evidence_in(tmp_path, made.bias(MODEL, ended=datetime(2020, 1, 1, tzinfo=UTC)))

    assert judge(found, found.stages[2].requires[0], evidence).state is RequirementState.MET
    late = judge(found, found.stages[2].requires[0], evidence, made.ENDED)
    assert late.state is RequirementState.FAILED
