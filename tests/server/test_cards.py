from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import evidence_files as made
import pytest
from policies import policy, release

from sluicegate.auth import Audience
from sluicegate.evidence import Evidence, EvidenceSet, Filed
from sluicegate.server.cards import ModelCard, model_card, opening_changes

MODEL = "gpt2-124m"
LATER = made.ENDED + timedelta(days=30)


def card(*evidence: Evidence, weights: str | None = made.WEIGHTS) -> ModelCard:
    """Of MODEL, with these files in the policy directory, the oldest first."""
    files = tuple(Filed(each, f"{at:064}", f"{at}.json") for at, each in enumerate(evidence))
    return model_card(replace(policy(), evidence=EvidenceSet(files)), MODEL, weights)


def test_a_card_has_the_latest_bias_of_each_suite() -> None:
    found = card(
        made.bias(MODEL, suite="winobias", stereotype=70, other=30),
        made.bias(MODEL, suite="occupations"),
        made.bias(MODEL, suite="winobias", stereotype=60, other=40, ended=LATER),
    )

    shares = {each.evidence.suite.name: each.evidence.figures.share for each in found.bias}
    assert shares == {"occupations": 0.5, "winobias": 0.6}


def test_a_card_has_the_latest_watermark_and_what_was_recited() -> None:
    found = card(
        made.watermark(MODEL, found=10),
        made.watermark(MODEL, found=97, ended=LATER),
        made.memorisation(MODEL, matched=3),
    )

    assert found.watermark is not None
    assert found.watermark.evidence.power[0].found == 97
    assert [each.evidence.matched for each in found.memorisation] == [3]


@pytest.mark.parametrize(
    "other",
    [made.bias(MODEL, weights="9" * 64), made.bias("gpt2-355m"), made.finding(MODEL)],
    ids=["of other weights", "of another model", "what a partner found"],
)
def test_what_is_not_of_the_served_weights_is_not_on_it(other: Evidence) -> None:
    assert card(other) == card()


def test_of_a_model_that_is_not_loaded_nothing_is_known() -> None:
    assert card(made.bias(MODEL), made.watermark(MODEL), weights=None) == card()


def test_the_steps_that_opened_or_closed_a_model_are_on_it_and_no_others() -> None:
    steps = [("s1", "s2", "2026-01-03"), ("s2", "s3", "2026-01-20"), ("s3", "s1", "2026-02-01")]
    plan = policy(
        release(transitions=[{"from": before, "to": after, "at": f"{day}T16:00:00Z"} for before, after, day in steps])
    ).plan

    changes = {
        model: [(each.transition.to, each.before, each.after) for each in opening_changes(plan, model)]
        for model in ("gpt2-124m", "gpt2-355m", "gpt2-774m")
    }

    assert changes == {
        "gpt2-124m": [],
        "gpt2-355m": [("s2", None, Audience.PUBLIC), ("s1", Audience.PUBLIC, None)],
        "gpt2-774m": [("s3", Audience.PARTNER, Audience.PUBLIC), ("s1", Audience.PUBLIC, Audience.PARTNER)],
    }
