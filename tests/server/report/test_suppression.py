from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.server.report.suppression import SMALLEST, Figure, Run, is_small, merged, told, total


@pytest.mark.parametrize(
    ("count", "figure"),
    [(0, Figure(0)), (1, Figure(0, 1)), (4, Figure(0, 1)), (5, Figure(5)), (1_000, Figure(1_000))],
)
def test_counts_of_one_to_four_are_withheld_and_nothing_else(count: int, figure: Figure) -> None:
    assert told(count) == figure


def test_tokens_are_withheld_by_the_number_of_their_calls() -> None:
    assert (told(9_000, 4), told(3, 5), told(0, 0)) == (Figure(0, 1), Figure(3), Figure(0))


def test_a_total_leaves_withheld_cells_out_and_counts_them() -> None:
    assert total(map(told, (10, 3, 0, 7, 1))) == Figure(17, 2)


@pytest.mark.parametrize(
    ("counts", "runs"),
    [
        ([], ()),
        ([0, 0], (Run(0, 0, 0), Run(1, 1, 0))),
        ([7, 9], (Run(0, 0, 7), Run(1, 1, 9))),
        ([3, 0, 4, 9], (Run(0, 2, 7), Run(3, 3, 9))),
        ([9, 0, 3], (Run(0, 2, 12),)),
        ([9, 6, 1], (Run(0, 0, 9), Run(1, 2, 7))),
        ([1, 0, 2], None),
        ([2, 3], (Run(0, 1, 5),)),
    ],
)
def test_neighbours_are_joined_until_there_are_enough(counts: list[int], runs: tuple[Run, ...] | None) -> None:
    assert merged(counts) == runs


@given(st.lists(st.integers(0, 12), max_size=70))
def test_runs_are_never_small_and_add_up_to_the_whole(counts: list[int]) -> None:
    runs = merged(counts)

    if runs is None:
        assert is_small(sum(counts))
        return
    assert not any(is_small(run.count) for run in runs)
    assert [index for run in runs for index in range(run.first, run.last + 1)] == list(range(len(counts)))
    assert all(run.count == sum(counts[run.first : run.last + 1]) for run in runs)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.data())
def test_no_place_in_a_run_can_be_told_to_be_exactly_one_small_count(counts: list[int], data: st.DataObject) -> None:
    """For each small count there are other counts that make the same runs."""
    runs = merged(counts)
    small = [index for index, count in enumerate(counts) if is_small(count)]
    if runs is None or not small:
        return
    index = data.draw(st.sampled_from(small))
    [run] = [each for each in runs if each.first <= index <= each.last]
    others = [
        [*counts[:index], counts[index] + step, *counts[index + 1 : other], counts[other] - step, *counts[other + 1 :]]
        for other in range(index + 1, run.last + 1)
        for step in range(-SMALLEST, SMALLEST)
        if step
    ] + [
        [*counts[:other], counts[other] - step, *counts[other + 1 : index], counts[index] + step, *counts[index + 1 :]]
        for other in range(run.first, index)
        for step in range(-SMALLEST, SMALLEST)
        if step
    ]

    assert any(min(each) >= 0 and merged(each) == runs for each in others)
