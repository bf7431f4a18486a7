from __future__ import annotations

import pytest

from sluicegate.server.watch.quantiles import quantile

BUCKETS = {"0.1": 50.0, "0.2": 90.0, "0.5": 100.0, "+Inf": 100.0}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.25, 0.05), (0.5, 0.1), (0.7, 0.15), (0.9, 0.2), (0.95, 0.35), (1.0, 0.5)]
)
def test_observations_are_spread_evenly_in_their_bucket(share: float, expected: float) -> None:
    assert quantile(share, BUCKETS) == pytest.approx(expected)


def test_above_the_highest_bound_that_bound_is_the_answer() -> None:
    assert quantile(0.95, {"0.1": 1.0, "+Inf": 100.0}) == 0.1


@pytest.mark.parametrize(
    "buckets", [{}, {"0.1": 0.0, "+Inf": 0.0}, {"0.1": 5.0}, {"nan": 3.0}, {"soon": 3.0}, {"-1": 2.0}]
)
def test_without_observations_there_is_none(buckets: dict[str, float]) -> None:
    assert quantile(0.5, buckets) is None


def test_counts_that_fall_break_nothing() -> None:
    assert quantile(0.99, {"0.1": 10.0, "0.2": 5.0, "+Inf": 6.0}) is not None
