"""A step with a prompt lasts at most STRETCH times as long as one without, whatever the model's speed."""

from __future__ import annotations

import random

import pytest

from sluicegate.server.engine.prompt_share import STRETCH, UNMEASURED_SHARE, PromptShare

TOKENS = 256


def run(share: PromptShare, rows: int, decode: float, token: float, *, steps: int = 60, noise: float = 0) -> list[int]:
    """Steps of a model in which decoding takes `decode` and each prompt token `token` more; gives what prompts got."""
    generator = random.Random(7)
    given = []
    for number in range(steps):
        prompt = share.tokens(rows, rows) if number % 2 else 0
        seconds = (decode + token * prompt) * (1 + noise * generator.random())
        share.measure(rows, prompt, seconds)
        if prompt:
            given.append(prompt)
    return given


@pytest.mark.parametrize(("decode", "token"), [(0.013, 0.00017), (0.028, 0.00017), (0.1, 0.002), (1e-4, 5e-6)])
def test_a_step_with_a_prompt_comes_to_last_as_long_as_it_may(decode: float, token: float) -> None:
    given = run(PromptShare(TOKENS), 8, decode, token)

    assert given[0] == TOKENS * UNMEASURED_SHARE
    wanted = min((STRETCH - 1) * decode / token, TOKENS)
    assert given[-1] == pytest.approx(wanted, abs=1)


def test_noise_moves_it_little() -> None:
    quiet = run(PromptShare(TOKENS), 8, 0.013, 0.00017, steps=400)[-1]
    given = run(PromptShare(TOKENS), 8, 0.013, 0.00017, steps=400, noise=0.2)[-50:]

    assert all(0.5 * quiet < each < 1.5 * quiet for each in given)


def test_one_late_step_is_no_measure() -> None:
    share = PromptShare(TOKENS)
    run(share, 8, 0.013, 0.00017)
    before = share.tokens(8, 8)

    share.measure(8, 0, 10.0)
    assert share.tokens(8, 8) < 2 * before
    share = PromptShare(TOKENS)
    run(share, 8, 0.013, 0.00017)
    share.measure(8, before, 10.0)
    assert share.tokens(8, 8) > before / 2


def test_more_rows_have_a_measure_of_their_own_and_borrow_that_of_fewer_until_then() -> None:
    share = PromptShare(TOKENS)
    run(share, 4, 0.010, 0.0002)
    borrowed = share.tokens(32, 32)
    run(share, 32, 0.030, 0.0002)

    assert borrowed == share.tokens(4, 4) == pytest.approx(40, abs=1)
    assert share.tokens(32, 32) == pytest.approx(120, abs=1)


def test_where_many_come_at_once_the_first_do_not_hold_them_up() -> None:
    share = PromptShare(TOKENS)
    run(share, 4, 0.010, 0.0002)
    run(share, 32, 0.030, 0.0002)

    assert share.tokens(4, 4) == pytest.approx((STRETCH - 1) * 0.010 / 0.0002, abs=2)
    assert share.tokens(4, 32) == pytest.approx((STRETCH * 0.030 - 0.010) / 0.0002, abs=2)
    assert share.tokens(32, 36) == pytest.approx((STRETCH - 1) * 0.030 / 0.0002, abs=2)


def test_rows_between_those_that_were_measured_take_what_is_between() -> None:
    share = PromptShare(TOKENS)
    run(share, 4, 0.010, 0.0002)
    run(share, 15, 0.021, 0.0002)

    assert share.tokens(8, 8) == pytest.approx((STRETCH - 1) * 0.014 / 0.0002, abs=2)
    assert share.tokens(7, 8) == pytest.approx((STRETCH * 0.014 - 0.013) / 0.0002, abs=2)


def test_fewer_rows_borrow_nothing_from_more() -> None:
    share = PromptShare(TOKENS)
    run(share, 32, 0.030, 0.0002)

    assert share.tokens(1, 1) == TOKENS * UNMEASURED_SHARE


def test_where_no_stream_runs_a_prompt_has_the_whole_step() -> None:
    share = PromptShare(TOKENS)
    run(share, 8, 0.013, 0.00017)

    assert share.tokens(0, 0) == TOKENS
    share.measure(0, 256, 1.0)
    assert share.tokens(8, 8) < 70


def test_a_prompt_that_costs_more_the_further_it_is_read_stretches_no_step() -> None:
    share, position, stretched = PromptShare(TOKENS), 0, []
    share.measure(0, 256, 0.040)
    share.measure(8, 0, 0.013)
    while position < 1024:
        tokens = share.tokens(8, 8)
        position += tokens
        seconds = 0.013 + tokens * 0.00015 * (1 + position / 2048)
        stretched.append(seconds / 0.013)
        share.measure(8, tokens, seconds)

    assert max(stretched) < 2


def test_what_cost_nothing_once_may_cost_something_later() -> None:
    share = PromptShare(TOKENS)
    share.measure(8, 0, 0.013)
    share.measure(8, 50, 0.012)
    share.measure(8, 50, 0.023)

    assert share.tokens(8, 8) == pytest.approx((STRETCH - 1) * 0.013 / 0.0002, abs=1)


def test_a_clock_that_stands_still_measures_nothing() -> None:
    share = PromptShare(TOKENS)
    for _ in range(3):
        share.measure(8, 0, 0.0)
        share.measure(8, 50, 0.0)

    assert share.tokens(8, 8) == TOKENS * UNMEASURED_SHARE
