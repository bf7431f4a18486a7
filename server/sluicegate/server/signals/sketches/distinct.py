"""How many distinct prompts came within a day: one HyperLogLog for each hour, so that the day slides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluicegate.server.signals.sketches.hyperloglog import REGISTERS, Registers, add, estimate
from sluicegate.server.signals.sketches.windows import HOURS, Moment, Numbers


@dataclass(frozen=True, slots=True)
class DistinctExtract:
    """What other replicas are told: `registers` [hours, registers] of the given `hours` [≤ HOURS]."""

    hours: Numbers
    registers: Registers


class Distinct:
    """One partner's prompts. One thread only; the moment never goes back."""

    def __init__(self) -> None:
        self._hours = np.zeros(HOURS, np.uint32)
        self._registers = np.zeros((HOURS, REGISTERS), np.uint8)

    def see(self, value: int, moment: Moment) -> None:
        """Count a prompt, told from others by a hash below 2**64."""
        row = moment.hour % HOURS
        if self._hours[row] != moment.hour:
            self._hours[row], self._registers[row] = moment.hour, 0
        add(self._registers[row], value)

    def extract(self, moment: Moment) -> DistinctExtract:
        """What of the window other replicas are told. What has left it is forgotten."""
        rows = moment.has_hour(self._hours)
        self._registers[~rows] = 0
        return DistinctExtract(self._hours[rows], self._registers[rows])


def distinct_count(extracts: list[DistinctExtract], moment: Moment) -> int:
    """About how many distinct prompts the window has, over all replicas."""
    merged = np.zeros(REGISTERS, np.uint8)
    for each in extracts:
        for registers in each.registers[moment.has_hour(each.hours)]:
            np.maximum(merged, registers, out=merged)
    return round(estimate(merged))
