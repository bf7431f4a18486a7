"""HyperLogLog: about how many distinct hashes there were, from 1,024 bytes, which merge by their maximum.

Flajolet, Fusy, Gandouet and Meunier, HyperLogLog (2007); the estimate is that of Ertl, New cardinality estimation
algorithms for HyperLogLog sketches (arXiv:1702.01284), algorithm 6, which needs no table of corrections. Plain arrays,
because what other replicas write is read with a check of its length and nothing else to go wrong.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

PRECISION = 10
REGISTERS = 1 << PRECISION
"""The standard error of an estimate is 1.04 / √REGISTERS: 3.3 %."""
HIGHEST = 64 - PRECISION + 1
MOST = 2.0**64
"""The estimate where every register is at its highest, which no count comes to."""

Registers = NDArray[np.uint8]
"""uint8 [registers]: for each, the highest rank seen, 0 to HIGHEST."""


def add(registers: Registers, value: int) -> bool:
    """Count a hash, evenly spread below 2**64; whether that changed a register."""
    index, rest = value & (REGISTERS - 1), value >> PRECISION
    rank = HIGHEST - rest.bit_length()
    if rank <= registers[index]:
        return False
    registers[index] = rank
    return True


def estimate(registers: Registers) -> float:
    """About how many distinct hashes were counted."""
    counts = np.bincount(np.minimum(registers, HIGHEST), minlength=HIGHEST + 1).tolist()
    total = REGISTERS * _tau(1 - counts[HIGHEST] / REGISTERS)
    for count in reversed(counts[1:HIGHEST]):
        total = 0.5 * (total + count)
    total += REGISTERS * _sigma(counts[0] / REGISTERS)
    return REGISTERS**2 / (2 * math.log(2) * total) if total else MOST


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    total, before, factor = x, -1.0, 1.0
    while total != before:
        x, before = x * x, total
        total, factor = total + x * factor, 2 * factor
    return total


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    total, before, factor = 1 - x, -1.0, 1.0
    while total != before:
        x, before, factor = math.sqrt(x), total, factor / 2
        total -= (1 - x) ** 2 * factor
    return total / 3
