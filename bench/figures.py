"""What is made of measured values: quantiles, spreads, and ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a few rounds, and how far they lie apart."""

    median: float
    lowest: float
    highest: float

    def __format__(self, spec: str) -> str:
        """As `median (lowest-highest)`, each by the spec of one number."""
        return f"{self.median:{spec}} ({self.lowest:{spec}}-{self.highest:{spec}})"


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours over theirs, round by round: a change of the machine's load meets both of a pair.

    The median of the ratios, not the ratio of the medians. ValueError if one side has other rounds than the other.
    """
    return spread([our / their for our, their in zip(ours, theirs, strict=True)])


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of the ascending values lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def gaps(arrivals: Sequence[Sequence[float]]) -> list[float]:
    """Ascending times between one token and the next of the same stream, over all streams."""
    return sorted(later - earlier for stream in arrivals for earlier, later in pairwise(stream))
