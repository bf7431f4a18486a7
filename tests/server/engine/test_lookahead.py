from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest

from sluicegate.server.engine.lookahead import (
    LONGEST_WAIT,
    LOOK_STEPS,
    PRIOR_DRAFTS,
    SHORTEST_WAIT,
    TRIALS,
    Acceptance,
    Lookahead,
    RecentTime,
    most_productive,
)

MOST = 4

# Seconds of a step by number of drafts. A step of few rows costs little more for its drafts; one of many is bound by
# arithmetic, and every draft costs as much as a sequence.
BOUND_BY_MEMORY = (1.0, 1.15, 1.25, 1.35, 1.45)
BOUND_BY_ARITHMETIC = (1.0, 2.0, 3.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("seconds", "acceptances", "others", "drafts"),
    [
        (BOUND_BY_MEMORY, [1.0], 0, 4),
        (BOUND_BY_MEMORY, [0.5], 0, 2),  # 1.75 tokens in 1.25 s; 1.5 in 1.15 and 1.875 in 1.35 are fewer
        (BOUND_BY_MEMORY, [0.3], 0, 1),
        (BOUND_BY_MEMORY, [0.18], 0, 0),  # 1.18 tokens in 1.15 s are more, but hardly
        (BOUND_BY_MEMORY, [0.1], 0, 0),
        (BOUND_BY_MEMORY, [0.0], 0, 0),
        (BOUND_BY_MEMORY, [0.9, 0.9, 0.0], 0, 4),
        (BOUND_BY_MEMORY, [0.9, *[0.0] * 6], 0, 0),
        (BOUND_BY_MEMORY, [0.9], 6, 0),  # six that get none wait for it
        (BOUND_BY_ARITHMETIC, [0.9], 0, 0),
        (BOUND_BY_ARITHMETIC, [1.0], 0, 0),  # as fast as without: then without
        ((1.0, math.inf, math.inf), [1.0], 0, 0),
        ((0.0, 0.0, 0.0), [0.5], 0, 2),
    ],
)
def test_as_many_drafts_as_give_the_most_tokens_a_second(
    seconds: Sequence[float], acceptances: list[float], others: int, drafts: int
) -> None:
    assert most_productive(seconds, acceptances, others) == drafts


def test_the_chance_of_a_draft_begins_at_the_prior_and_follows_what_is_seen() -> None:
    acceptance = Acceptance()

    assert acceptance.estimate(0.25, PRIOR_DRAFTS) == 0.25
    acceptance.add(4, 4, recent=32)
    assert acceptance.estimate(0.0, 4) == 0.5
    for _ in range(100):
        acceptance.add(0, 1, recent=32)
    assert acceptance.estimate(0.0, 4) < 0.05


def test_a_time_is_a_mean_that_forgets_and_does_not_count_the_slowest() -> None:
    time = RecentTime()

    for seconds in (50.0, 1.0, 2.0, 3.0):
        time.add(seconds)
    assert time.seconds == 2.0
    for seconds in [10.0] * 100:
        time.add(seconds)

    assert time.seconds == 10.0


def test_a_want_of_memory_is_known_at_once_and_forgotten_when_there_is_some() -> None:
    time = RecentTime()
    for seconds in (1.0, 2.0, math.inf):
        time.add(seconds)

    assert (time.is_known, time.seconds) == (True, math.inf)
    time.add(3.0)
    assert (time.is_known, time.seconds) == (False, 3.0)


class Played:
    """A Lookahead on a machine with these times, whose drafts are accepted as `accepted(slot, drafts)` says.

    `step_seconds(rows)`; a draft for any number of sequences takes `draft_seconds`.
    """

    def __init__(
        self, step_seconds: Callable[[int], float], accepted: Callable[[int, int], int], draft_seconds: float = 0.1
    ) -> None:
        self.lookahead = Lookahead(MOST)
        self.step_seconds = step_seconds
        self.draft_seconds = draft_seconds
        self._accepted = accepted
        for slot in range(8):
            self.lookahead.open(slot)

    def step(self, slots: list[int], *, others: int = 0, is_free: bool = False) -> int:
        drafts = self.lookahead.choose(len(slots) + others, slots, drafting_is_free=is_free)
        if drafts and not is_free:
            self.lookahead.note_drafting(len(slots), self.draft_seconds)
        rows = others + len(slots) * (1 + drafts)
        self.lookahead.note_step(rows, self.step_seconds(rows))
        for slot in slots if drafts else ():
            self.lookahead.note_drafts(slot, drafts, self._accepted(slot, drafts))
        return drafts

    def steps(self, slots: list[int], count: int) -> list[int]:
        return [self.step(slots) for _ in range(count)]


ONE, EIGHT = [0], list(range(8))


def machine(rows: int) -> float:
    """Seven rows take a little longer than one; from eight on each takes as long as the next."""
    return 1.0 + 0.05 * rows if rows < 8 else rows / 5


def all_of_them(slot: int, drafts: int) -> int:
    return drafts


def none_of_them(slot: int, drafts: int) -> int:
    return 0


def test_one_more_is_tried_as_long_as_that_helps() -> None:
    played = Played(machine, all_of_them)

    chosen = played.steps(ONE, TRIALS * MOST + 5)

    assert chosen == [drafts for drafts in range(MOST) for _ in range(TRIALS)] + [MOST] * 5


def test_no_more_are_tried_where_one_does_not_help() -> None:
    played = Played(float, all_of_them)

    chosen = played.steps(ONE, SHORTEST_WAIT)

    assert chosen == [0] * TRIALS + [1] * TRIALS + [0] * (SHORTEST_WAIT - 2 * TRIALS)


def test_drafts_end_when_the_batch_grows_and_come_back_when_it_shrinks() -> None:
    played = Played(machine, all_of_them)
    played.steps(ONE, 20)
    played.steps(EIGHT, 20)

    assert played.steps(EIGHT, 20) == [0] * 20
    assert played.steps(ONE, 20) == [MOST] * 20


def test_drafts_that_cost_as_much_as_the_model_are_not_made() -> None:
    played = Played(machine, all_of_them, draft_seconds=2.0)

    assert played.steps(ONE, 20)[-10:] == [0] * 10


def test_drafts_that_cost_nothing_are_judged_by_the_step_alone() -> None:
    played = Played(machine, all_of_them, draft_seconds=math.nan)

    chosen = [played.step(ONE, is_free=True) for _ in range(20)]

    assert chosen[-5:] == [MOST] * 5


def test_what_a_sequence_gains_is_weighed_against_what_the_others_wait() -> None:
    played = Played(machine, all_of_them)
    played.steps(ONE, 20)

    assert [played.step(ONE, others=7, is_free=True) for _ in range(20)][-5:] == [0] * 5


def test_a_look_at_a_neighbour_is_taken_now_and_then_and_less_often_if_it_changes_nothing() -> None:
    played = Played(machine, none_of_them)
    played.steps(ONE, 20)

    chosen = played.steps(ONE, 10 * LONGEST_WAIT)

    looks = [index for index, drafts in enumerate(chosen) if drafts and not chosen[index - 1]]
    waits = [later - earlier - LOOK_STEPS for earlier, later in itertools.pairwise(looks)]
    assert set(chosen) == {0, 1}
    assert chosen.count(1) == LOOK_STEPS * len(looks)
    assert waits[:3] == [2 * SHORTEST_WAIT, 4 * SHORTEST_WAIT, 8 * SHORTEST_WAIT]
    assert set(waits[3:]) == {LONGEST_WAIT}


def test_looks_go_both_ways() -> None:
    played = Played(lambda rows: (1.0, 1.0, 1.0, 9.0, 9.0)[rows - 1], all_of_them)
    played.steps(ONE, 20)

    chosen = played.steps(ONE, 600)

    assert (chosen[-100:].count(2), set(chosen)) == (100, {1, 2, 3})


def test_a_text_that_becomes_easy_to_guess_is_noticed() -> None:
    easy = False
    played = Played(machine, lambda slot, drafts: drafts if easy else 0)
    played.steps(ONE, 1_000)
    easy = True

    played.steps(ONE, 4 * LONGEST_WAIT)

    assert played.step(ONE) == MOST


def test_steps_that_become_slow_with_drafts_have_none_soon() -> None:
    played = Played(machine, all_of_them)
    played.steps(ONE, 100)
    played.step_seconds = float

    played.steps(ONE, 1_000)

    assert played.step(ONE) == 0


def test_a_new_sequence_counts_as_the_others_until_it_has_shown_what_it_is() -> None:
    played = Played(machine, lambda slot, drafts: drafts if slot != 1 else 0)
    played.steps(ONE, 40)

    assert played.step([1]) == MOST
    played.steps([1], 40)
    assert played.step([1]) == 0
    assert played.step(ONE) == MOST


def test_a_slot_that_is_taken_again_knows_nothing_of_the_sequence_before() -> None:
    played = Played(machine, lambda slot, drafts: drafts if slot != 1 else 0)
    played.steps(ONE, 60)
    played.steps([1], 30)
    assert played.step([1]) == 0

    played.lookahead.close(1)
    played.lookahead.open(1)

    assert played.step([1]) > 0


def test_drafts_for_which_there_is_no_memory_are_not_asked_for_until_a_look_finds_some() -> None:
    played = Played(machine, all_of_them)
    played.steps(ONE, 20)
    for rows in (3, 4, 5):
        played.lookahead.note_step(rows, math.inf)

    assert played.steps(ONE, SHORTEST_WAIT) == [1] * SHORTEST_WAIT
    played.steps(ONE, 4 * SHORTEST_WAIT)  # looks at two, at three, at four
    assert played.step(ONE) == MOST


def test_a_drafter_without_memory_is_not_asked_until_a_look_finds_some() -> None:
    played = Played(machine, all_of_them)
    played.steps(ONE, 20)
    played.lookahead.note_drafting(1, math.inf)

    assert played.steps(ONE, SHORTEST_WAIT) == [0] * SHORTEST_WAIT
    assert played.steps(ONE, 20)[-1] == MOST


@pytest.mark.parametrize(("accepted", "chosen"), [(0, 0), (1, 2), (2, 4), (4, 4)])
def test_drafts_behind_the_first_wrong_one_say_nothing_of_the_chance(accepted: int, chosen: int) -> None:
    lookahead = Lookahead(MOST)
    lookahead.open(0)
    for drafts, seconds in enumerate(BOUND_BY_MEMORY):
        for _ in range(TRIALS):
            lookahead.note_step(1 + drafts, seconds)
    for _ in range(30):
        lookahead.note_drafts(0, 4, accepted)

    assert lookahead.choose(1, [0], drafting_is_free=True) == chosen


def test_nothing_is_chosen_where_nothing_can_be_drafted() -> None:
    assert Lookahead(MOST).choose(3, []) == 0
