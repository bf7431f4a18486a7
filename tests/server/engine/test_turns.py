"""Device time is shared among the models of one device by weight."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from sluicegate.server.engine.turns import Turns


def take(turns: Turns, busy: dict[str, float], count: int, weights: dict[str, float] | None = None) -> list[str]:
    """Whose turns come, when steps of the busy models take these seconds."""
    taken = []
    for _ in range(count):
        model = turns.next(busy)
        turns.charge(model, busy[model], (weights or {}).get(model, 1.0))
        taken.append(model)
    return taken


def test_models_whose_steps_last_alike_take_turns() -> None:
    assert take(Turns(), {"a": 0.5, "b": 0.5}, 6) == ["a", "b"] * 3


def test_models_take_turns_where_no_time_passes() -> None:
    assert take(Turns(), {"a": 0.0, "b": 0.0, "c": 0.0}, 6) == ["a", "b", "c"] * 2


def test_a_small_model_gets_as_much_time_as_a_large_one() -> None:
    assert Counter(take(Turns(), {"small": 1.0, "large": 10.0}, 110)) == {"small": 100, "large": 10}


def test_time_is_shared_by_weight() -> None:
    taken = Counter(take(Turns(), {"a": 1.0, "b": 1.0}, 100, {"a": 3.0, "b": 1.0}))

    assert taken == {"a": 75, "b": 25}


def test_a_model_that_had_no_work_has_saved_up_nothing() -> None:
    turns = Turns()
    take(turns, {"a": 1.0, "b": 1.0}, 2)
    take(turns, {"a": 1.0}, 100)

    assert take(turns, {"a": 1.0, "b": 1.0}, 6) in (["a", "b"] * 3, ["b", "a"] * 3)


def test_a_model_that_was_alone_owes_nothing() -> None:
    turns = Turns()
    take(turns, {"a": 1.0}, 100)

    assert take(turns, {"a": 1.0, "new": 1.0}, 4) == ["new", "a"] * 2


def test_one_that_is_postponed_comes_after_all_others() -> None:
    turns = Turns()
    busy = {"fails": 0.0, "slow": 9.0, "slower": 10.0}
    take(turns, busy, 3)
    assert turns.next(busy) == "fails"

    turns.charge("fails", 0.0, 1.0)
    turns.postpone("fails")

    assert take(turns, busy, 3) == ["slow", "slower", "fails"]


def test_a_model_that_is_alone_can_be_postponed() -> None:
    turns = Turns()
    turns.next({"a"})

    turns.postpone("a")

    assert turns.next({"a"}) == "a"


@pytest.mark.parametrize("seed", range(10))
def test_models_that_always_have_work_differ_by_no_more_than_a_step_of_each(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"model {number}" for number in range(draw.randrange(2, 5))]
    weights = {name: draw.uniform(0.1, 10) for name in names}
    longest = {name: draw.uniform(0.001, 1) for name in names}
    turns = Turns()
    used = dict.fromkeys(names, 0.0)

    for _ in range(1_000):
        visitor = {"visitor"} if draw.random() < 0.3 else set()
        model = turns.next({*names, *visitor})
        seconds = draw.uniform(0, longest.get(model, 1.0))
        turns.charge(model, seconds, weights.get(model, 1.0))
        if model in used:
            used[model] += seconds
        for one in names:
            for other in names:
                lead = used[one] / weights[one] - used[other] / weights[other]
                assert lead <= longest[one] / weights[one] + longest[other] / weights[other] + 1e-9
