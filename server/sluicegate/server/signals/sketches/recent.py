"""Which texts repeat another of the last hour: the fingerprints seen in it, and how many were seen and repeated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sluicegate.server.signals.sketches.windows import PARTS, Moment, Numbers

NEAR_BITS = 3
"""Fingerprints of near duplicates differ in so many bits at most (Manku et al. 2007)."""
REMEMBERED = 4_096
"""Fingerprints; beyond that, the one that was longest not seen makes room."""
SHARED = 512
"""Of these, the newest are told to other replicas."""


@dataclass(frozen=True, slots=True)
class RecentExtract:
    """What other replicas are told. Arrays of one length belong together.

    `parts`, `seen`, `repeated` [≤ PARTS]: how many texts came in a part, and how many of them repeated another one.
    `prints`, `born`, `last` [≤ SHARED]: a fingerprint, the part in which it was new, and the last one with a near text.
    """

    parts: Numbers
    seen: Numbers
    repeated: Numbers
    prints: NDArray[np.uint64]
    born: Numbers
    last: Numbers


class Recent:
    """The fingerprints of one partner's texts. One thread only; the moment never goes back."""

    def __init__(self) -> None:
        self._prints = np.zeros(REMEMBERED, np.uint64)
        self._born = np.zeros(REMEMBERED, np.uint32)
        self._last = np.zeros(REMEMBERED, np.uint32)  # 0 where there is none: a part long past
        self._parts = np.zeros(PARTS, np.uint32)
        self._seen = np.zeros(PARTS, np.uint32)
        self._repeated = np.zeros(PARTS, np.uint32)

    def see(self, fingerprint: int | None, moment: Moment) -> bool:
        """Count a text; whether it is near to another of the window. One without a fingerprint never is."""
        column = self._column(moment)
        self._seen[column] += 1
        if fingerprint is None:
            return False
        near = np.bitwise_count(self._prints ^ np.uint64(fingerprint)) <= NEAR_BITS
        near &= moment.has_part(self._last)
        place = int(near.argmax())
        if near[place]:
            self._last[place] = moment.part
            self._repeated[column] += 1
            return True
        place = int(self._last.argmin())
        self._prints[place], self._born[place], self._last[place] = fingerprint, moment.part, moment.part
        return False

    def extract(self, moment: Moment) -> RecentExtract:
        """What of the window other replicas are told. What has left it is forgotten."""
        gone = ~moment.has_part(self._last)
        self._prints[gone], self._born[gone], self._last[gone] = 0, 0, 0
        columns = moment.has_part(self._parts) & (self._seen > 0)
        kept = np.flatnonzero(self._last)
        kept = kept[np.argsort(self._last[kept], kind="stable")[-SHARED:]]
        return RecentExtract(
            self._parts[columns],
            self._seen[columns],
            self._repeated[columns],
            self._prints[kept],
            self._born[kept],
            self._last[kept],
        )

    def _column(self, moment: Moment) -> int:
        """The place of the running part among the counts, cleared if it holds another's."""
        column = moment.part % PARTS
        if self._parts[column] != moment.part:
            self._parts[column], self._seen[column], self._repeated[column] = moment.part, 0, 0
        return column


def repeated_ratio(extracts: list[RecentExtract], crossing: int, moment: Moment) -> float:
    """The share of the window's texts, 0 to 1, that repeat another of the window, on whichever replica that came.

    `crossing` is what `repeated_across` gave: each replica's own counts leave it out.
    """
    seen, repeated = 0, crossing
    for each in extracts:
        columns = moment.has_part(each.parts)
        seen += int(each.seen[columns].sum())
        repeated += int(each.repeated[columns].sum())
    return min(1.0, repeated / seen) if seen else 0.0


def repeated_across(extracts: list[RecentExtract], moment: Moment) -> int:
    """How many texts of the window that were new to their replica had come to another one before.

    What is new to two replicas is new once: where both know a fingerprint, the later one's first text was a repetition.
    Compares every two replicas once, which takes about half a millisecond where all SHARED are there.
    """
    live = []
    for each in extracts:
        kept = moment.has_part(each.last)
        if kept.any():
            live.append((each.prints[kept], each.born[kept]))
    live.sort(key=lambda each: each[0].tobytes())  # whoever adds up: of two as old, all take the same for the first
    came_before = [np.zeros(len(prints), np.bool_) for prints, _ in live]
    for place, (prints, born) in enumerate(live):
        for other in range(place):
            theirs, theirs_born = live[other]
            near = np.bitwise_count(prints[:, None] ^ theirs[None, :]) <= NEAR_BITS
            here, there = np.divmod(np.flatnonzero(near), len(theirs))  # faster than nonzero on two dimensions
            is_later = theirs_born[there] <= born[here]
            came_before[place][here[is_later]] = True
            came_before[other][there[~is_later]] = True
    return sum(int((came & moment.has_part(born)).sum()) for came, (_, born) in zip(came_before, live, strict=True))
