"""The windows that signals are counted in: the last hour in parts of five minutes, the last day in hours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PART_SECONDS, PARTS = 300, 12
"""Twelve parts with the running one: a window of 55 to 60 minutes."""
HOUR_SECONDS, HOURS = 3_600, 24
"""Twenty-four hours with the running one: a window of 23 to 24 hours."""
LATEST = 2**40
"""In Unix seconds: a moment is below it, so that its part and its hour are whole numbers of 32 bits."""

Numbers = NDArray[np.uint32]
"""uint32: parts or hours since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The part and the hour that are running, counted from the Unix epoch."""

    part: int
    hour: int

    def has_part(self, parts: Numbers) -> NDArray[np.bool_]:
        """Which of the parts lie in the window. One too early counts: another replica's clock may be a little ahead."""
        return (parts + np.uint32(PARTS) > self.part) & (parts <= self.part + 1)

    def has_hour(self, hours: Numbers) -> NDArray[np.bool_]:
        """Which of the hours lie in the window."""
        return (hours + np.uint32(HOURS) > self.hour) & (hours <= self.hour + 1)


def moment(now: float) -> Moment:
    """The moment of a time in Unix seconds."""
    seconds = int(min(max(now, 0.0), LATEST - 1))
    return Moment(seconds // PART_SECONDS, seconds // HOUR_SECONDS)
