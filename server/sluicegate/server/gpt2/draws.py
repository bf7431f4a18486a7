"""Random draws that depend on a sequence and never on its batch: one keyed uniform for each token.

Philox-4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section
3.3; its known answers are in Random123's tests/kat_vectors. It is computed on the host, so a draw is the
same on every device.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], dtype=np.uint64)
WEYL = np.array([[0x9E3779B9], [0xBB67AE85]], dtype=np.uint32)
ROUNDS = 10
BLOCK = 256


def philox4x32(counter: NDArray[np.uint32], key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Four random words a column, as `counter`: uint32 [4, n]; `key`: uint32 [2, n]."""
    for _ in range(ROUNDS):
        products = counter[0::2].astype(np.uint64) * MULTIPLIERS
        high, low = (products >> np.uint64(32)).astype(np.uint32), products.astype(np.uint32)
        counter = np.stack([high[1] ^ counter[1] ^ key[0], low[1], high[0] ^ counter[3] ^ key[1], low[0]])
        key = key + WEYL
    return counter


def uniforms(
    seeds: NDArray[np.uint64], candidates: NDArray[np.uint32], positions: NDArray[np.uint32]
) -> NDArray[np.float64]:
    """For each row 53 random bits in [0, 1); key: seed, counter: (position, candidate, 0, 0)."""
    low_word = np.uint64(0xFFFFFFFF)
    key = np.stack([seeds & low_word, seeds >> np.uint64(32)]).astype(np.uint32)
    counter = np.zeros((4, len(seeds)), dtype=np.uint32)
    counter[0], counter[1] = positions, candidates
    words = philox4x32(counter, key)
    bits = (words[0].astype(np.uint64) << np.uint64(21)) | (words[1].astype(np.uint64) >> np.uint64(11))
    fractions: NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
    return fractions


def pick(weights: Tensor, uniform: Tensor) -> Tensor:
    """One column of each row, with probability in proportion to its weight; a weight of zero is never picked.

    `weights`: float [rows, n], not negative, not all zero; `uniform`: float64 [rows] in [0, 1); result:
    int64 [rows]. First a block of columns is found, then the column in it: a cumulative sum over a whole
    vocabulary costs ten times as much, and a float32 one loses the tail.
    """
    blocks = functional.pad(weights, (0, -weights.shape[1] % BLOCK)).view(len(weights), -1, BLOCK)
    totals = blocks.sum(-1).double()
    block, rest = _locate(totals, uniform * totals.sum(-1))
    rows = torch.arange(len(weights), device=weights.device)
    column, _ = _locate(blocks[rows, block].double(), rest)
    return block * BLOCK + column


def _locate(weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The column in which the running sum passes `target`, and how far into its weight the target is."""
    sums = weights.cumsum(-1)
    below_total = torch.nextafter(sums[:, -1], torch.zeros_like(target))
    target = target.clamp(min=0.0).minimum(below_total)[:, None]
    column = torch.searchsorted(sums, target, right=True)
    before = sums.gather(-1, column) - weights.gather(-1, column)
    return column[:, 0], (target - before)[:, 0]
