from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from sluicegate.client.evaluation.rates import interval, mcnemar
from sluicegate.evidence.binomial import is_interval, is_mcnemar, upper_tail

COUNTS = st.integers(1, 5_000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


@given(COUNTS)
def test_an_interval_is_that_of_its_counts_and_of_no_other(counts: tuple[int, int]) -> None:
    successes, trials = counts
    found = interval(successes, trials)

    assert found.is_of(successes, trials)
    assert not found.is_of(successes + 1 if successes < trials else successes - 1, trials)
    assert not is_interval(found.low, max(found.high - 0.01, 0.0), 0.95, successes, trials)
    assert not is_interval(min(found.low + 0.01, 1.0), found.high, 0.95, successes, trials)


@pytest.mark.parametrize("counts", [(0, 1), (1, 1), (0, 100_000), (1, 1_000_000), (50_000, 100_000), (99_999, 100_000)])
def test_intervals_of_many_and_of_few(counts: tuple[int, int]) -> None:
    assert interval(*counts).is_of(*counts)


def test_an_interval_of_another_confidence_is_none() -> None:
    found = interval(50, 100)

    assert not found.model_copy(update={"confidence": 0.5}).is_of(50, 100)


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_p_value_is_that_of_its_counts(one: int, other: int) -> None:
    assert is_mcnemar(mcnemar(one, other), one, other)
    assert not is_mcnemar(mcnemar(one, other) * 0.999, one, other)


@given(COUNTS, st.floats(0.0001, 0.9999))
def test_the_tail_is_scipys(counts: tuple[int, int], rate: float) -> None:
    successes, trials = counts
    if successes <= trials * rate:
        return
    assert upper_tail(successes, trials, rate) == pytest.approx(
        binom.sf(successes - 1, trials, rate), rel=1e-8, abs=1e-300
    )
