"""What is made of measured values."""

from __future__ import annotations

import pytest

from bench.figures import Spread, gaps, paired, quantile, spread


def test_spread_has_the_median_and_both_ends() -> None:
    assert spread([3.0, 1.0, 10.0]) == Spread(median=3.0, lowest=1.0, highest=10.0)


def test_spread_is_written_as_median_and_ends() -> None:
    assert f"{Spread(2.0, 1.25, 3.0):.1f}" == "2.0 (1.2-3.0)"


def test_a_paired_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    ours, theirs = [10.0, 40.0, 30.0], [10.0, 20.0, 60.0]

    found = paired(ours, theirs)

    assert found == Spread(median=1.0, lowest=0.5, highest=2.0)
    assert found.median != spread(ours).median / spread(theirs).median


def test_sides_with_different_rounds_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)])
def test_quantile_is_the_value_below_which_that_share_lies(share: float, value: float) -> None:
    assert quantile([float(number) for number in range(1, 101)], share) == value


def test_gaps_are_within_a_stream_and_ascend_over_all() -> None:
    assert gaps([[1.0, 4.0, 5.0], [0.0, 2.0], [7.0]]) == [1.0, 2.0, 3.0]
