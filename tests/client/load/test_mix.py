"""What is drawn has the shares and lengths that were asked for, and is the same for the same seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise

import pytest

from sluicegate.client.load.mix import Mix, Request, Span, poisson

MIX = Mix(
    shares={"small": 3.0, "large": 1.0},
    vocabularies={"small": 11, "large": 301},
    callers=3,
    prompt=Span(2, 5),
    output=Span(4, 9),
    cancel_share=0.25,
)


def drawn(mix: Mix = MIX, seed: int = 1, count: int = 4_000) -> list[Request]:
    return list(islice(mix.requests(seed), count))


def test_models_have_their_shares_and_callers_go_round() -> None:
    models = Counter(request.model for request in drawn())
    callers = Counter(request.caller for request in drawn())

    assert models["small"] / 4_000 == pytest.approx(0.75, abs=0.03)
    assert sorted(callers) == [0, 1, 2]
    assert min(callers.values()) / 4_000 == pytest.approx(1 / 3, abs=0.03)


def test_lengths_take_every_value_of_their_span() -> None:
    requests = drawn()

    assert {len(request.prompt) for request in requests} == {2, 3, 4, 5}
    assert {request.output_tokens for request in requests} == {4, 5, 6, 7, 8, 9}


def test_prompts_have_every_id_of_the_models_vocabulary_but_the_last() -> None:
    ids = {token for request in drawn() if request.model == "small" for token in request.prompt}

    assert ids == set(range(10))


def test_the_given_share_is_cancelled_somewhere_before_its_end() -> None:
    cancels = [(request.cancel_after, request.output_tokens) for request in drawn() if request.cancel_after is not None]

    assert len(cancels) / 4_000 == pytest.approx(0.25, abs=0.03)
    assert all(1 <= after <= output for after, output in cancels)
    assert {request.cancel_after for request in drawn(replace(MIX, cancel_share=0))} == {None}


def test_a_seed_repeats_all_of_it_and_another_does_not() -> None:
    assert drawn(seed=5) == drawn(seed=5)
    assert drawn(seed=5) != drawn(seed=6)


def test_arrivals_come_at_the_rate_and_as_irregularly_as_if_each_knew_nothing_of_the_others() -> None:
    times = list(islice(poisson(50.0, 1), 20_000))

    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 50, rel=0.03)
    # An exponential distribution deviates by its mean.
    assert deviation == pytest.approx(mean, rel=0.03)
    assert times == list(islice(poisson(50.0, 1), 20_000))
