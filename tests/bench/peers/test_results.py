"""From rounds to rows."""

from __future__ import annotations

import dataclasses

import pytest

from bench.figures import Spread
from bench.machine import Usage
from bench.peers.accuracy import Agreement
from bench.peers.conversation import Round
from bench.peers.results import Case, Measured, measured, rotated, row
from bench.peers.serving import Output
from bench.work import Request

WORK = [Request([1] * 100, 11), Request([2] * 300, 31)]
CASE = Case(2, "unequal")
ALL = Agreement(1.0, 0.0)


def one_round(seconds: float, arrivals: list[list[float]] | None = None, others: float = 0.0) -> Round:
    return Round(seconds, Output([], arrivals or []), Usage(seconds, 0.0, others))


def figures(tokens_per_second: float, decode: float | None = 1.0, *, is_disturbed: bool = False) -> Measured:
    quiet = measured(WORK, one_round(1.0), one_round(2.0))
    return dataclasses.replace(
        quiet, tokens_per_second=tokens_per_second, decode_tokens_per_second=decode, is_disturbed=is_disturbed
    )


def test_what_the_whole_takes_longer_than_its_prefill_is_decoding() -> None:
    found = measured(WORK, one_round(0.5), one_round(2.5))

    assert found.prefill_tokens_per_second == pytest.approx(400 / 0.5)
    assert found.decode_tokens_per_second == pytest.approx(40 / 2.0)
    assert found.tokens_per_second == pytest.approx(42 / 2.5)
    assert found.first_ms == pytest.approx(500)
    assert (found.stream_first_ms, found.gap_p50_ms, found.gap_p99_ms) == (None, None, None)


def test_a_whole_that_is_no_longer_than_its_prefill_has_no_speed_of_decoding() -> None:
    assert measured(WORK, one_round(2.0), one_round(2.0)).decode_tokens_per_second is None


def test_streams_tell_the_wait_for_the_first_token_and_between_tokens() -> None:
    arrivals = [[0.1, 0.2, 0.5], [0.3, 0.4, 0.5]]

    found = measured(WORK, one_round(0.3), one_round(0.5, arrivals))

    assert found.stream_first_ms == pytest.approx(300)
    assert found.gap_p50_ms == pytest.approx(100)
    assert found.gap_p99_ms == pytest.approx(300)


@pytest.mark.parametrize(("prefill", "whole"), [(0.5, 0.0), (0.0, 0.5)])
def test_a_round_is_disturbed_if_either_half_of_it_was(prefill: float, whole: float) -> None:
    found = measured(WORK, one_round(1.0, others=prefill), one_round(2.0, others=whole))

    assert found.is_disturbed
    assert found.others_cores == 0.5


def test_a_row_pairs_ours_with_its_own_round() -> None:
    rounds = [figures(10, is_disturbed=True), figures(20), figures(40)]
    ours = [figures(20), figures(20), figures(120)]

    found = row(("peer bfloat16", "bf16"), CASE, rounds, ("engine bfloat16", ours), ALL)

    assert found.tokens_per_second == Spread(20, 10, 40)
    assert found.ours_over_it == Spread(2, 1, 3)
    assert found.against == "engine bfloat16"
    assert found.disturbed_rounds == 1


def test_rounds_without_a_speed_of_decoding_are_left_out_of_its_ratio() -> None:
    rounds, ours = [figures(1, None), figures(1, 2.0)], [figures(1, 5.0), figures(1, 6.0)]

    found = row(("peer", ""), CASE, rounds, ("engine bfloat16", ours), ALL)

    assert found.ours_over_it_decoding == Spread(3, 3, 3)
    assert found.decode_tokens_per_second == Spread(2, 2, 2)


def test_a_row_without_a_baseline_has_no_ratio() -> None:
    found = row(("engine", ""), CASE, [figures(1)], None, ALL)

    assert (found.against, found.ours_over_it) == (None, None)
    assert found.gap_p99_ms is None


def test_each_round_begins_with_the_next_engine() -> None:
    orders = [rotated(["a", "b", "c"], number) for number in range(4)]

    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
