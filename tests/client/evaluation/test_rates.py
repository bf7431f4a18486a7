from __future__ import annotations

import math

import pytest

from sluicegate.client.evaluation.rates import interval, mcnemar


def at_least(successes: int, trials: int, rate: float) -> float:
    """Chance of so many successes or more."""
    return sum(math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(successes, trials + 1))


@pytest.mark.parametrize(("successes", "trials"), [(3, 10), (1, 40), (39, 40), (208, 400)])
def test_the_interval_ends_where_the_tails_hold_a_fortieth(successes: int, trials: int) -> None:
    found = interval(successes, trials)

    assert at_least(successes, trials, found.low) == pytest.approx(0.025, abs=1e-4)
    assert 1 - at_least(successes + 1, trials, found.high) == pytest.approx(0.025, abs=1e-4)


def test_the_interval_of_none_and_of_all_goes_to_the_border() -> None:
    assert (interval(0, 20).low, interval(20, 20).high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("only_this", "only_other", "p_value"),
    [(0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 / 2**10), (0, 10, 2 / 2**10), (8, 2, 2 * (1 + 10 + 45) / 2**10)],
)
def test_mcnemar_is_the_two_sided_binomial_test_of_a_fair_coin(only_this: int, only_other: int, p_value: float) -> None:
    assert mcnemar(only_this, only_other) == pytest.approx(p_value, rel=1e-5)
