from __future__ import annotations

import random

import numpy as np
import pytest

from sluicegate.server.signals.sketches.hyperloglog import HIGHEST, REGISTERS, add, estimate


def counted(hashes: list[int]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    registers = np.zeros(REGISTERS, np.uint8)
    for value in hashes:
        add(registers, value)
    return registers


@pytest.mark.parametrize("count", [1, 10, 100, 1_000, 3_000, 10_000, 50_000])
def test_estimate_is_within_three_standard_errors(count: int) -> None:
    chance = random.Random(count)

    found = estimate(counted([chance.getrandbits(64) for _ in range(count)]))

    assert found == pytest.approx(count, rel=3 * 1.04 / REGISTERS**0.5)


def test_nothing_counted_is_none() -> None:
    assert estimate(np.zeros(REGISTERS, np.uint8)) == 0


def test_value_counted_twice_changes_nothing() -> None:
    registers = counted([7, 2**63, 0])

    assert not add(registers, 2**63)
    assert registers.max() == HIGHEST  # of the hash 0, of which no bit is set


def test_registers_that_no_hash_can_make_still_give_a_number() -> None:
    assert estimate(np.full(REGISTERS, 255, np.uint8)) == 2**64
