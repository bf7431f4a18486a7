"""Which slot a sequence gets, and what it finds there."""

from __future__ import annotations

from collections.abc import Sequence as Items
from itertools import count

from scripted_runner import ScriptedRunner

from sluicegate.server.engine.messages import Sampling, Submit
from sluicegate.server.engine.runner import Chunk
from sluicegate.server.engine.sequence import Sequence, build_request
from sluicegate.server.engine.slots import MINIMUM_PREFIX_TOKENS, Slots

LONG = MINIMUM_PREFIX_TOKENS


class Desk:
    """Slots whose sequences feed all of their prompt at once."""

    def __init__(self, slots: int) -> None:
        self.runner = ScriptedRunner(slots=slots, context_length=256)
        self.slots = Slots(self.runner)
        self._numbers = count()

    def take(self, prompt: Items[int], salt: str = "lab") -> tuple[Sequence, int]:
        """A sequence in its slot, its prompt fed, and how much of that it found there."""
        name = str(next(self._numbers))
        message = Submit(request=name, model="m", prompt=list(prompt), sampling=Sampling(), cache_salt=salt)
        (sequence,) = build_request("front", message, 0, 0.0, None).live
        self.slots.take(sequence)
        assert sequence.slot is not None
        found, sequence.cached = sequence.cached, len(prompt)
        self.runner.run([Chunk(sequence.slot, found, prompt[found:], samples=True)])
        self.slots.check()
        return sequence, found

    def leave(self, sequence: Sequence, *, is_sound: bool = True) -> int:
        """Give its slot back; says which it was."""
        slot = sequence.slot
        assert slot is not None
        self.slots.release(sequence, is_sound=is_sound)
        self.slots.check()
        return slot

    def visit(self, prompt: Items[int], salt: str = "lab") -> tuple[int, int]:
        """Take and leave: the slot, and what was found there."""
        sequence, found = self.take(prompt, salt)
        return self.leave(sequence), found


def test_slots_that_are_of_use_to_nobody_go_first_and_low_numbers_stay_in_use() -> None:
    desk = Desk(3)

    assert [desk.visit([5] * LONG, salt="")[0] for _ in range(3)] == [0, 0, 0]
    assert desk.visit([5] * LONG)[0] == 0
    assert desk.visit([6] * LONG)[0] == 1


def test_of_free_slots_that_know_something_the_least_recently_used_is_overwritten() -> None:
    desk = Desk(3)
    for start in (10, 20, 30):
        desk.visit(range(start, start + LONG + 1))
    desk.visit(range(10, 10 + LONG + 1))

    slot, found = desk.visit(range(40, 40 + LONG))

    assert (slot, found) == (1, 0)
    assert desk.visit(range(10, 10 + LONG + 1)) == (0, LONG)
    assert desk.visit(range(20, 20 + LONG + 1)) == (2, 0)


def test_the_longest_prefix_is_taken() -> None:
    desk = Desk(4)
    common = list(range(100, 100 + 3 * LONG))
    for sequence, _ in [desk.take([*common[:length], 7]) for length in (LONG, 3 * LONG, 2 * LONG)]:
        desk.leave(sequence)

    assert desk.visit([*common, 8])[1] == 3 * LONG


def test_a_prefix_in_a_free_slot_is_taken_over_in_place() -> None:
    desk = Desk(2)
    running, _ = desk.take(range(LONG + 1))
    slot = desk.leave(desk.take(range(LONG + 1))[0])
    desk.runner.copies.clear()

    assert desk.visit(range(LONG + 1)) == (slot, LONG)
    assert desk.runner.copies == []
    assert running.slot != slot


def test_a_longer_prefix_of_a_running_sequence_is_copied_past_a_shorter_one_that_is_free() -> None:
    desk = Desk(3)
    desk.visit(range(LONG))
    running, _ = desk.take(range(200, 200 + LONG))
    longer, found = desk.take([*range(LONG), *range(50, 60)])
    assert found == LONG

    sequence, found = desk.take([*range(LONG), *range(50, 60), 9])

    assert found == LONG + 10
    assert desk.runner.copies == [(longer.slot, sequence.slot, LONG + 10)]
    assert len({running.slot, longer.slot, sequence.slot}) == 3


def test_a_prefix_that_saves_no_step_is_left_alone() -> None:
    desk = Desk(2)

    desk.visit([*range(LONG - 1), 90, 91])

    assert desk.visit([*range(LONG - 1), 92, 93])[1] == 0
    assert desk.visit(range(LONG))[1] == 0  # all but its last token would be one too few


def test_a_slot_that_is_not_sound_is_of_no_use() -> None:
    desk = Desk(1)
    sequence, _ = desk.take(range(2 * LONG))
    desk.leave(sequence, is_sound=False)

    assert desk.visit(range(2 * LONG)) == (0, 0)
