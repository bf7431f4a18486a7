"""Quantiles from buckets, beside numpy's from all values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from sluicegate.client.load.histogram import BUCKETS_PER_DOUBLING, RELATIVE_ERROR, SMALLEST, Histogram

SHARES = (0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0)
DRAWS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "exponential": lambda draws: draws.exponential(0.02, 20_001),
    "log-normal": lambda draws: draws.lognormal(-4, 2, 20_000),
    "uniform": lambda draws: draws.uniform(0.5, 4_000, 3_333),
    "two humps": lambda draws: np.concatenate([draws.normal(0.01, 0.001, 9_800), draws.normal(1.5, 0.1, 200)]),
    "few": lambda draws: draws.exponential(1, 7),
    "powers of two": lambda _: 2.0 ** np.arange(-12, 12),
}


def histogram(values: np.ndarray) -> Histogram:
    made = Histogram()
    for value in values:
        made.record(float(value))
    return made


@pytest.mark.parametrize("kind", DRAWS)
def test_quantiles_are_numpys_but_for_the_stated_error(kind: str) -> None:
    values = DRAWS[kind](np.random.default_rng(7))

    found = [histogram(values).quantile(share) for share in SHARES]

    assert found == pytest.approx(np.quantile(values, SHARES, method="inverted_cdf"), rel=RELATIVE_ERROR, abs=0)


def test_count_mean_and_both_ends_are_exact() -> None:
    values = np.random.default_rng(8).exponential(0.02, 1_000)

    found = histogram(values)

    assert (found.count, found.quantile(0), found.quantile(1)) == (1_000, values.min(), values.max())
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)


def test_one_value_is_every_quantile() -> None:
    assert {histogram(np.array([0.0123])).quantile(share) for share in SHARES} == {0.0123}


def test_what_is_too_small_to_tell_apart_counts_as_nothing() -> None:
    found = histogram(np.array([0.0, SMALLEST / 2, 1.0]))

    assert (found.count, found.quantile(0.5)) == (3, 0.0)


def test_without_values_there_is_no_quantile_and_no_mean() -> None:
    assert (Histogram().quantile(0.5), Histogram().mean) == (None, None)


def test_two_added_are_as_one_of_all_values() -> None:
    values = np.random.default_rng(9).lognormal(0, 1, 500)
    first, second = histogram(values[:200]), histogram(values[200:])

    first.add(second)

    assert [first.quantile(share) for share in SHARES] == [histogram(values).quantile(share) for share in SHARES]
    assert first.count == 500
    assert first.total == pytest.approx(values.sum(), rel=1e-12)


def test_a_value_can_count_several_times() -> None:
    found = Histogram()
    found.record(1.0, 3)
    found.record(2.0)

    assert (found.count, found.mean, found.quantile(1)) == (4, 1.25, 2)
    assert found.quantile(0.75) == pytest.approx(1, rel=RELATIVE_ERROR)


def test_memory_is_bounded_by_the_doublings_and_not_by_the_number_of_values() -> None:
    values = np.random.default_rng(10).uniform(1, 8, 50_000)

    assert len(histogram(values)._buckets) <= 3 * BUCKETS_PER_DOUBLING


def test_a_value_below_nothing_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        Histogram().record(-1e-9)


def test_every_bucket_holds_its_own_middle() -> None:
    for value in np.geomspace(1e-5, 1e5, 2_000):
        found = histogram(np.array([value * (1 - 1e-9), value, value * (1 + 1e-9)])).quantile(0.5)
        assert found is not None
        assert math.isclose(found, value, rel_tol=RELATIVE_ERROR)
