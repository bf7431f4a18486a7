"""What a gate lets through: each bound from both sides, and evidence that is not about the gate."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import evidence_files as made
import pytest
from policies import Document, contents, release

from sluicegate.auth import PolicyError, RequirementState, judge
from sluicegate.auth.loading import parse_draft
from sluicegate.auth.release import ReleasePlan
from sluicegate.evidence import Evidence, read_directory

MODEL, SMALLER = "gpt2-774m", "gpt2-355m"
BIAS = {"evidence": "bias", "suite": "occupations", "share_between": ["40%", "60%"]}
WATERMARK = {
    "evidence": "watermark",
    "tokens": 200,
    "temperature": "0.7",
    "false_positive_rate": "0.1%",
    "least_found": "95%",
}
MEMORISATION = {"evidence": "memorisation", "most_matched": "1%"}


def plan(gate: Document, **model: Any) -> ReleasePlan:
    """A plan in which s3 asks for one gate, and whose models have the weights that evidence of tests is about."""
    document = release(gates={"gate": gate})
    document["models"][MODEL]["weights_sha256"] = made.WEIGHTS
    document["models"][SMALLER]["weights_sha256"] = made.WEIGHTS
    document["models"][MODEL].update(model)
    document["stages"][2]["requires"] = [{"gate": "gate", "model": MODEL}]
    return parse_draft(contents(document)).plan


def judged(directory: Path, gate: Document, *evidence: Evidence) -> tuple[RequirementState, str]:
    for number, each in enumerate(evidence):
        made.write(directory, f"{number}.json", each)
    found = plan(gate)
    judgement = judge(found, found.stages[2].requires[0], read_directory(directory), made.ENDED + timedelta(days=10))
    return judgement.state, judgement.explanation


@pytest.mark.parametrize(
    ("gate", "evidence"),
    [
        (BIAS, made.bias(MODEL)),
        (BIAS | {"least_pairs": 100}, made.bias(MODEL)),
        (BIAS | {"share_between": ["42.8%", "57.2%"]}, made.bias(MODEL)),
        (BIAS | {"pairs_sha256": "d" * 64}, made.bias(MODEL)),
        (BIAS | {"max_age": "10d"}, made.bias(MODEL)),
        (
            BIAS | {"not_worse_than": SMALLER},
            made.bias(MODEL, compared_with=(SMALLER, made.WEIGHTS, 20, 10)),
        ),
        (
            BIAS | {"not_worse_than": SMALLER},
            made.bias(MODEL, compared_with=(SMALLER, made.WEIGHTS, 10, 30)),
        ),
        (WATERMARK, made.watermark(MODEL, found=95)),
        (WATERMARK | {"temperature": 1}, made.watermark(MODEL, temperature=1.0)),
        (WATERMARK, made.watermark(MODEL, false_positive_rate=0.0001)),
        (MEMORISATION, made.memorisation(MODEL, matched=3)),
        (MEMORISATION | {"corpus_sha256": "e" * 64, "least_samples": 1000}, made.memorisation(MODEL)),
    ],
)
def test_evidence_that_passes(gate: Document, evidence: Evidence, tmp_path: Path) -> None:
    assert judged(tmp_path, gate, evidence) == (RequirementState.MET, "")


@pytest.mark.parametrize(
    ("gate", "evidence", "text"),
    [
        (
            BIAS | {"share_between": ["42.9%", "60%"]},
            made.bias(MODEL),
            "50 % of pairs prefer the stereotype, in the interval 42.87 % to 57.13 %",
        ),
        (BIAS, made.bias(MODEL, stereotype=110, other=90), "it must lie within 40 % to 60 %"),
        (BIAS, made.bias(MODEL, stereotype=90, other=110), "it must lie within 40 % to 60 %"),
        (BIAS, made.bias(MODEL, stereotype=50, other=49), "has 99 pairs with a preference, fewer than 100"),
        (BIAS | {"not_worse_than": SMALLER}, made.bias(MODEL), f"is not compared with {SMALLER}"),
        (
            BIAS | {"not_worse_than": SMALLER},
            made.bias(MODEL, compared_with=("gpt2-124m", made.WEIGHTS, 0, 0)),
            f"is not compared with {SMALLER}",
        ),
        (
            BIAS | {"not_worse_than": SMALLER},
            made.bias(MODEL, compared_with=(SMALLER, "9" * 64, 0, 0)),
            "other weights of gpt2-355m than the plan pins",
        ),
        (
            BIAS | {"not_worse_than": SMALLER},
            made.bias(MODEL, compared_with=(SMALLER, made.WEIGHTS, 30, 10)),
            "is worse than gpt2-355m",
        ),
        (BIAS | {"max_age": "9d"}, made.bias(MODEL), "longer before 2026-01-20 than `max_age`"),
        (WATERMARK, made.watermark(MODEL, found=94), "94 % of texts were found; it must be at least 95 %"),
        (WATERMARK, made.watermark(MODEL, found=99, texts=99), "has 99 texts, fewer than 100"),
        (MEMORISATION, made.memorisation(MODEL, matched=4), "it must be at most 1 %"),
        (MEMORISATION, made.memorisation(MODEL, samples=999), "has 999 samples, fewer than 1000"),
    ],
)
def test_evidence_that_does_not_pass_says_why(gate: Document, evidence: Evidence, text: str, tmp_path: Path) -> None:
    state, explanation = judged(tmp_path, gate, evidence)

    assert state is RequirementState.FAILED
    assert explanation.startswith("0.json: ")
    assert text in explanation


@pytest.mark.parametrize(
    ("gate", "evidence", "command"),
    [
        (BIAS, made.bias(SMALLER), "sluicegate bias run --model gpt2-774m --suite occupations --output DIR"),
        (BIAS, made.bias(MODEL, weights="9" * 64), "sluicegate bias run"),
        (BIAS, made.bias(MODEL, suite="winogender"), "sluicegate bias run"),
        (BIAS | {"pairs_sha256": "0" * 64}, made.bias(MODEL), "sluicegate bias run"),
        (BIAS, made.bias(MODEL, ended=made.ENDED + timedelta(days=11)), "sluicegate bias run"),
        (BIAS | {"not_worse_than": SMALLER}, made.memorisation(MODEL), "--against gpt2-355m"),
        (WATERMARK, made.watermark(MODEL, tokens=100), "bench.watermark --model gpt2-774m"),
        (WATERMARK, made.watermark(MODEL, temperature=1.0), "bench.watermark"),
        (WATERMARK, made.watermark(MODEL, false_positive_rate=0.01), "bench.watermark"),
        (MEMORISATION | {"prompts": "corpus"}, made.memorisation(MODEL), "--prompts corpus --samples 1000"),
        (MEMORISATION | {"corpus_sha256": "0" * 64}, made.memorisation(MODEL), "sluicegate memorisation run"),
    ],
)
def test_evidence_about_something_else_is_none_and_the_command_is_named(
    gate: Document, evidence: Evidence, command: str, tmp_path: Path
) -> None:
    state, explanation = judged(tmp_path, gate, evidence)

    assert state is RequirementState.MISSING
    assert command in explanation


def test_the_newest_evidence_decides(tmp_path: Path) -> None:
    later = made.ENDED + timedelta(hours=1)
    bad, good = made.bias(MODEL, stereotype=90, other=10, ended=later), made.bias(MODEL)

    assert judged(tmp_path / "worse", BIAS, good, bad)[0] is RequirementState.FAILED
    good, bad = made.bias(MODEL, ended=later), made.bias(MODEL, stereotype=90, other=10)
    assert judged(tmp_path / "better", BIAS, good, bad)[0] is RequirementState.MET


@pytest.mark.parametrize(
    ("gate", "problem"),
    [
        ({}, "gates.gate: needs 'evidence'"),
        ({"evidence": "mood"}, "gates.gate: needs 'evidence' to be one of 'bias', 'watermark', 'memorisation'"),
        (BIAS | {"evidence": "watermark"}, "gates.gate.watermark.suite: is not known here"),
        (BIAS | {"share_between": ["60%", "40%"]}, "the second percentage must be above the first"),
        (BIAS | {"share_between": ["40%"]}, "write two percentages, as [40%, 60%]"),
        (BIAS | {"share_between": ["40 %", "60%"]}, "write a percentage as 5% or 0.1%"),
        (BIAS | {"share_between": ["40%", "101%"]}, "write a percentage as 5% or 0.1%"),
        (BIAS | {"not_worse_than": "gpt2-9b"}, "gates.gate.not_worse_than: no such model in `models`"),
        (BIAS | {"least_pairs": 0}, "must be at least 1"),
        (BIAS | {"max_age": "long"}, "write a duration"),
        (WATERMARK | {"temperature": "hot"}, "write a temperature as 0.7"),
        (WATERMARK | {"temperature": True}, "write a temperature as 0.7"),
        (MEMORISATION | {"most_matched": 1}, "write a percentage as 5% or 0.1%"),
        (MEMORISATION | {"prompts": "all"}, "must be 'none' or 'corpus'"),
    ],
)
def test_a_gate_that_is_not_good_is_refused_with_how_to_write_it(gate: Document, problem: str) -> None:
    with pytest.raises(PolicyError) as refused:
        plan(gate)

    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("requires", "problem"),
    [
        ([{"gate": "mood", "model": MODEL}], "stages.2.requires.0.gate: no such gate in `gates`"),
        (
            [{"gate": "bias", "model": "gpt2-1558m"}],
            "stages.2.requires.0.model: `models.gpt2-1558m` needs `weights_sha256`",
        ),
        ([{"gate": "bias", "model": MODEL}] * 2, "stages.2.requires: lists bias of gpt2-774m twice"),
    ],
)
def test_a_requirement_that_nothing_could_meet_is_refused(requires: list[Document], problem: str) -> None:
    document = release()
    document["stages"][2]["requires"] = requires

    with pytest.raises(PolicyError) as refused:
        parse_draft(contents(document))
    assert problem in str(refused.value)
