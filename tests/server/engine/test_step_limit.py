"""How small steps get when memory is short, and how they grow back."""

from __future__ import annotations

from sluicegate.server.engine.step_limit import LONE_FAILURES, StepLimit


def steps_until(limit: StepLimit, tokens: int) -> int:
    """Steps that succeed until one may feed so many tokens."""
    count = 0
    while limit.tokens < tokens:
        limit.grow()
        count += 1
    return count


def test_it_is_the_largest_step_while_nothing_fails() -> None:
    limit = StepLimit(256)

    limit.grow()

    assert (limit.tokens, limit.is_lowered) == (256, False)


def test_it_is_half_of_what_failed() -> None:
    limit = StepLimit(256)

    assert limit.shrink(100)

    assert (limit.tokens, limit.is_lowered) == (50, True)


def test_what_failed_is_tried_again_after_some_45_steps_whatever_its_size() -> None:
    for fed in (2, 20, 200):
        limit = StepLimit(256)
        limit.shrink(fed)

        assert 42 <= steps_until(limit, fed) <= 46


def test_it_grows_back_to_the_largest_and_no_further() -> None:
    limit = StepLimit(256)
    limit.shrink(2)

    steps_until(limit, 256)
    limit.grow()

    assert (limit.tokens, limit.is_lowered) == (256, False)


def test_a_single_token_is_tried_again_before_it_is_given_up() -> None:
    limit = StepLimit(256)

    answers = [limit.shrink(1) for _ in range(2 * LONE_FAILURES)]

    assert answers == ([True] * (LONE_FAILURES - 1) + [False]) * 2
    assert limit.tokens == 1


def test_failures_of_a_single_token_count_in_a_row_only() -> None:
    limit = StepLimit(256)

    for between in (limit.grow, lambda: limit.shrink(3)):
        for _ in range(LONE_FAILURES - 1):
            assert limit.shrink(1)
        between()
    assert limit.shrink(1)
