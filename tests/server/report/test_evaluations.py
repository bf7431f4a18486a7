from __future__ import annotations

from datetime import timedelta

import evidence_files as made
import pytest
from policies import policy

from sluicegate.evidence import Evidence, EvidenceSet, Filed
from sluicegate.server.report.evaluations import IntervalRow, content_of, evaluations, known_before

LATER = made.ENDED + timedelta(days=30)


def files(*evidence: Evidence) -> EvidenceSet:
    return EvidenceSet(tuple(Filed(each, f"{at:064}", f"{at}.json") for at, each in enumerate(evidence)))


def test_what_ended_later_was_not_known() -> None:
    known = known_before(files(made.bias("m"), made.bias("m", ended=LATER)), "2026-01-31T00:00:00.000Z")

    assert [each.file for each in known.files] == ["0.json"]


def test_the_latest_of_each_topic_and_of_all_weights_are_told() -> None:
    told = evaluations(
        files(
            made.bias("m", stereotype=70, other=30),
            made.bias("m", stereotype=60, other=40, ended=LATER),
            made.bias("m", suite="winobias"),
            made.bias("l", weights="9" * 64),
            made.watermark("m", found=97),
            made.memorisation("m", matched=3),
        ),
        None,
    )

    assert [(row.origin.model, row.suite, row.share) for row in told.bias] == [
        ("l", "occupations", 0.5),
        ("m", "occupations", 0.6),
        ("m", "winobias", 0.5),
    ]
    assert [(row.tokens, row.texts, row.rate) for row in told.watermark] == [(200, 100, 0.97)]
    [row] = told.memorisation
    assert (row.samples, row.matched, row.rate, row.interval) == (
        1_000,
        3,
        0.003,
        IntervalRow(0.95, 0.000619, 0.008742),
    )
    assert (row.origin.at, row.origin.evidence_sha256) == ("2026-01-10T12:00:00.000Z", f"{5:064}")


def test_with_a_policy_only_its_models_and_the_weights_that_it_pins_are_told() -> None:
    plan = policy()
    pinned = plan.models["gpt2-124m"].weights_sha256
    assert pinned is not None
    assert plan.models["gpt2-355m"].weights_sha256 is None

    told = evaluations(
        files(
            made.bias("gpt2-124m"),
            made.bias("gpt2-124m", weights=pinned),
            made.bias("gpt2-355m"),
            made.bias("some other"),
        ),
        plan,
    )

    assert [(row.origin.model, row.origin.weights_sha256) for row in told.bias] == [
        ("gpt2-124m", pinned),
        ("gpt2-355m", made.WEIGHTS),
    ]


@pytest.mark.parametrize(
    ("evidence", "text"),
    [
        (made.bias("m"), "bias of m, occupations"),
        (made.watermark("m"), "watermark of m"),
        (made.memorisation("m"), "memorisation of m"),
        (made.finding("m", partner="example-lab"), "a finding on m"),
    ],
)
def test_a_document_is_told_in_a_few_words(evidence: Evidence, text: str) -> None:
    assert content_of(evidence) == text
