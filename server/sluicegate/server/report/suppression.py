"""Small cells: counts of 1 to 4 calls are withheld, so that nobody can be picked out by them.

Cells are withheld at the finest grain that anything is counted at, before anything is summed up: totals, groups, and
series over time are made of the other cells only. So no figure depends on how great a withheld cell is, and none can be
found by taking figures from each other, in whichever tables they stand. What totals lack is said: for each withheld
cell the truth is 1 to 4 more. (Hundepool et al., "Statistical Disclosure Control", 2012, chapter 4, has why withholding
cells alone, under complete totals, does not do.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SMALLEST = 5
"""The smallest count that is told. 0 is told too: it is nobody."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A count, and how many withheld cells it lacks. A withheld cell is a 0 that lacks one."""

    value: int = 0
    withheld: int = 0

    def __add__(self, other: Figure) -> Figure:
        return Figure(self.value + other.value, self.withheld + other.withheld)


def is_small(count: int) -> bool:
    """Whether a count of calls must not be told."""
    return 0 < count < SMALLEST


def told(count: int, calls: int | None = None) -> Figure:
    """What may be told of a cell: its count. `calls`: how many calls it is about, if it does not count calls."""
    return Figure(withheld=1) if is_small(count if calls is None else calls) else Figure(count)


def total(figures: Iterable[Figure]) -> Figure:
    return sum(figures, Figure())


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbours that are told as one: from index `first` up to `last`, both included."""

    first: int
    last: int
    count: int


def merged(counts: Sequence[int]) -> tuple[Run, ...] | None:
    """Counts in a row, neighbours joined until each run is 0 or great enough; None if all together are too few.

    Nothing is left out, so the runs add up to the whole. One of 5 over two places says of each what a withheld cell
    says: 1 to 4.
    """
    runs: list[Run] = []
    for index, count in enumerate(counts):
        if runs and is_small(runs[-1].count):
            runs[-1] = Run(runs[-1].first, index, runs[-1].count + count)
        else:
            runs.append(Run(index, index, count))
    while len(runs) > 1 and is_small(runs[-1].count):
        last, before = runs.pop(), runs.pop()
        runs.append(Run(before.first, last.last, before.count + last.count))
    return None if runs and is_small(runs[-1].count) else tuple(runs)
