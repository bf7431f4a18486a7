"""What is counted in which second, and which requests are still under way."""

from __future__ import annotations

import math

import pytest

from sluicegate.client.load.tally import Tally, Throughput


def test_tokens_of_each_whole_second_count_and_so_does_a_second_without_any() -> None:
    found = Throughput(10.0, math.inf)

    for at, count in ((10.0, 2), (10.9, 3), (12.5, 4), (13.1, 7)):
        found.tokens(at, count)
    found.close(13.5)

    # Seconds of 5, 0 and 4 tokens; the half one with 7 is not whole.
    assert (found.per_second.count, found.per_second.total, found.per_second.quantile(1)) == (3, 9, 5)
    assert (found.per_second.quantile(0), found.output_tokens, found.seconds) == (0, 16, 3.5)


def test_what_comes_before_the_first_moment_or_from_the_last_on_does_not_count() -> None:
    found = Throughput(10.0, 12.0)

    for at in (9.9, 10.0, 11.9, 12.0):
        found.tokens(at, 1)
        found.request(at)
    found.close(30.0)

    assert (found.output_tokens, found.requests, found.seconds, found.per_second.count) == (2, 2, 2.0, 2)


def test_a_run_that_ends_in_its_warm_up_has_no_second() -> None:
    found = Throughput(10.0, 20.0)

    found.close(5.0)

    assert (found.seconds, found.per_second.count) == (0.0, 0)


def test_what_has_no_end_is_unfinished() -> None:
    tally = Tally(begun=9, answered=3, cancelled=2)
    tally.refused.update(QUOTA=1, OVERLOADED=1)

    assert tally.unfinished == 2


def test_one_tally_added_to_another_brings_all_of_its_fields() -> None:
    one, other = Tally(begun=2, answered=1, cancelled=1, output_tokens=5), Tally(begun=1, output_tokens=2)
    other.refused.update(["QUOTA"])
    other.finish_reasons.update(["STOP"])
    for histogram in (other.first_token, other.inter_token, other.per_output_token, other.whole, other.queue):
        histogram.record(1.0)

    one.add(other)

    assert (one.begun, one.answered, one.cancelled, one.output_tokens, one.unfinished) == (3, 1, 1, 7, 0)
    assert (one.refused["QUOTA"], one.finish_reasons["STOP"]) == (1, 1)
    histograms = (one.first_token, one.inter_token, one.per_output_token, one.whole, one.queue)
    assert [each.mean for each in histograms] == [pytest.approx(1.0)] * 5
