"""Random draws that depend on a sequence and never on its batch: a race whose waiting times are keyed.

Each entry waits for a time drawn from the exponential distribution, divided by its weight; the first to come is
drawn, and it is each with probability in proportion to its weight. Two distributions that differ little mostly draw
the same entry from the same times, in whatever order the entries are: at total variation distance d, at least (1 - d) /
(1 + d) of the time (Daliri, Musco, Suresh 2025, "Coupling without communication and drafter-invariant speculative
decoding"). So the draws of a draft model foretell those of the model, and rounding tips few of them. One uniform
against a running sum would do neither: a little more weight on one entry moves all entries behind it.

The race is run among blocks of entries, then inside the block that wins: 453 times for a vocabulary of 50,257.

Philox-4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section
3.3; its known answers are in Random123's tests/kat_vectors. It is computed on the host, or, where a CUDA graph draws,
in the same integers on the device: a draw is the same on every device, but for the last bit of a logarithm.
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
LOW_WORD = 0xFFFFFFFF
BLOCK = 256  # near the square root of GPT-2's vocabulary size, which makes the times fewest


def philox4x32(counter: NDArray[np.uint32], key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Four random words a column, as `counter`: uint32 [4, n]; `key`: uint32 [2, n]."""
    for _ in range(ROUNDS):
        products = counter[0::2].astype(np.uint64) * MULTIPLIERS
        high, low = (products >> np.uint64(32)).astype(np.uint32), products.astype(np.uint32)
        counter = np.stack([high[1] ^ counter[1] ^ key[0], low[1], high[0] ^ counter[3] ^ key[1], low[0]])
        key = key + WEYL
    return counter


def waiting_times(
    seeds: NDArray[np.uint64], candidates: NDArray[np.uint32], positions: NDArray[np.uint32], vocabulary_size: int
) -> NDArray[np.float64]:
    """For each row times of rate 1, positive: one for each block of the vocabulary, then one for each place in a block.

    Each is -log of 32 random bits; the key is the seed, the counter (position, candidate, number, 0). What 32 bits cut
    off moves no probability by more than 1e-7, which is float32's own precision.
    """
    count = times_count(vocabulary_size)
    calls = -(-count // 4)
    key = np.stack([seeds & np.uint64(LOW_WORD), seeds >> np.uint64(32)]).astype(np.uint32)
    counter = np.zeros((4, len(seeds), calls), dtype=np.uint32)
    counter[0], counter[1] = positions[:, None], candidates[:, None]
    counter[2] = np.arange(calls, dtype=np.uint32)
    words = philox4x32(counter.reshape(4, -1), np.repeat(key, calls, axis=1))
    bits = words.reshape(4, len(seeds), calls).transpose(1, 2, 0).reshape(len(seeds), -1)[:, :count]
    times: NDArray[np.float64] = -np.log((bits.astype(np.float64) + 0.5) * 2.0**-32)
    return times


class WaitingTimes:
    """`waiting_times` by torch on a device, in a way that a CUDA graph can record: nothing is copied from the host.

    32-bit words are kept in 64 bits; a product of two wraps around, and all of its bits are there.
    """

    def __init__(self, vocabulary_size: int, device: torch.device) -> None:
        self._count = times_count(vocabulary_size)
        self._multipliers = torch.from_numpy(MULTIPLIERS.astype(np.int64))[:, :, None].to(device)  # [2, 1, 1]
        weyl = torch.from_numpy(WEYL.astype(np.int64))[:, :, None].to(device)
        self._bumps = [number * weyl for number in range(ROUNDS)]
        self._calls = torch.arange(-(-self._count // 4), device=device)

    def __call__(self, seeds: Tensor, candidates: Tensor, positions: Tensor) -> Tensor:
        """float64 [rows, times_count]. All arguments int64 [rows], the seeds with their 64 bits."""
        key = torch.stack([seeds & LOW_WORD, (seeds >> 32) & LOW_WORD])[:, :, None]
        calls = self._calls.expand(len(seeds), -1)
        even = torch.stack([positions[:, None].expand_as(calls), calls])  # words 0 and 2 of the counter
        odd = torch.stack([candidates[:, None].expand_as(calls), torch.zeros_like(calls)])  # words 1 and 3
        for bump in self._bumps:
            products = even * self._multipliers
            high, low = (products >> 32) & LOW_WORD, products & LOW_WORD
            even, odd = high.flip(0) ^ odd ^ ((key + bump) & LOW_WORD), low.flip(0)
        bits = torch.stack([even[0], odd[0], even[1], odd[1]], dim=-1).flatten(1)[:, : self._count]
        return -((bits.double() + 0.5) * 2.0**-32).log()


def times_count(vocabulary_size: int) -> int:
    """How many waiting times a row has."""
    return _blocks(vocabulary_size) + BLOCK


def pick(weights: Tensor, times: Tensor) -> Tensor:
    """One id of each row, with probability in proportion to its weight; a weight of zero is never picked.

    `weights`: float [rows, vocabulary], not negative, not all zero; `times`: float64, as `waiting_times` gives
    them; result: int64 [rows].
    """
    blocks = functional.pad(weights, (0, -weights.shape[1] % BLOCK)).view(len(weights), -1, BLOCK)
    block = (times[:, :-BLOCK] / blocks.sum(-1).double()).argmin(-1)
    inside = blocks[torch.arange(len(weights), device=weights.device), block].double()
    return block * BLOCK + (times[:, -BLOCK:] / inside).argmin(-1)


def pick_among(ids: Tensor, weights: Tensor, times: Tensor) -> Tensor:
    """The same where only some ids have a weight: `ids`: int64 [rows, n], distinct; `weights`: float64 [rows, n].

    What `pick` would take of the same weights, in whatever order they come.
    """
    block_of, place = ids // BLOCK, ids % BLOCK
    totals = torch.zeros_like(times[:, :-BLOCK]).scatter_add_(-1, block_of, weights)
    block = (times[:, :-BLOCK] / totals).argmin(-1, keepdim=True)
    inside = torch.where(block_of == block, weights, 0.0)
    column = (times[:, -BLOCK:].gather(-1, place) / inside).argmin(-1, keepdim=True)
    return ids.gather(-1, column)[:, 0]


def _blocks(vocabulary_size: int) -> int:
    return -(-vocabulary_size // BLOCK)
