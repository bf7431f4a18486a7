"""Random schedules: whatever comes in whatever order, what must hold of the scheduler holds after every step."""

from __future__ import annotations

import pytest
from schedule_storm import Storm

from sluicegate.server.engine.messages import Finish

STEPS = 5_000


@pytest.mark.parametrize("seed", range(6))
def test_every_sequence_ends_exactly_once_with_the_right_tokens_and_no_slot_leaks(seed: int) -> None:
    storm = Storm(seed, has_rivals=False)

    storm.rage(STEPS)

    assert set(storm.tally.finishes) == {None, *Finish}
    assert storm.tally.cached_tokens > 500
    assert storm.tally.steps_out_of_memory > 0


@pytest.mark.parametrize(("seed", "has_rivals"), [(0, False), (1, False), (2, True)])
def test_all_of_it_holds_where_steps_give_several_tokens(seed: int, has_rivals: bool) -> None:
    storm = Storm(seed, has_rivals=has_rivals, speculates=True)

    storm.rage(STEPS)

    assert storm.tally.accepted_tokens > 500
    assert storm.tally.steps_out_of_memory > 0


@pytest.mark.parametrize("seed", range(4))
def test_two_that_always_wait_get_the_same_tokens_but_for_a_request_of_each(seed: int) -> None:
    storm = Storm(seed, has_rivals=True)

    storm.rage(STEPS)

    assert all(tokens > 1_000 for tokens in storm.tally.served.values())
