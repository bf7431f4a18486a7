"""The keyed hash of the watermark, as transformers computes it: a text that one side marks, the other side recognises.

SynthID-Text (Dathathri et al. 2024, "Scalable watermarking for identifying large language model outputs", Nature 634):
for the tokens before a place (the context) and each token that could stand there, each of the layers of a tournament
has a g-value, 0 or 1, which only a holder of the key can tell from a coin's. The hash is that of
`SynthIDTextWatermarkLogitsProcessor` in transformers' generation/logits_process.py: a linear congruential generator
modulo 2**64 takes in context, token and the layer's key; the low bits of what it gives are a place in a table of coins.

Only as many low bits of any of it matter as the table's size has, since low bits depend on low bits alone. So all that
goes before the layers' keys is one state of that many bits, and the g-values of all layers stand in one table by state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NGRAM = 5
"""Tokens that a g-value depends on: four of context, as in the paper, and the one that they are followed by."""

DEPTH = 30
"""Layers of the tournament, as in the paper."""

TABLE_SIZE = 1 << 20
"""Coins. transformers' default is 2**16; somebody who collects marked text learns the table that much faster."""

MULTIPLIER, INCREMENT = 6364136223846793005, 1  # of newlib's and musl's generators

_LOW_WORD = (1 << 64) - 1


def hash_context(tokens: Sequence[int]) -> int:
    """The hash of a context: 64 bits. Two contexts that differ share one in 2**64 of the cases."""
    state = 1
    for token in tokens:
        state = (state + token) * MULTIPLIER + INCREMENT & _LOW_WORD
    return state


def hash_contexts(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The hash of every context in a text that a token follows: uint64 [tokens - 4] of int64 [tokens], 5 at least."""
    tokens = ids.astype(np.uint64)
    count = len(tokens) - NGRAM + 1
    state = np.ones(count, dtype=np.uint64)
    for place in range(NGRAM - 1):
        state = _take_in(state, tokens[place : place + count])
    return state


def states_of(contexts: NDArray[np.uint64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The states that tokens behind contexts give, 0 to TABLE_SIZE - 1; both arguments of one shape, or broadcast."""
    states: NDArray[np.int64] = (_take_in(contexts, ids.astype(np.uint64)) & np.uint64(TABLE_SIZE - 1)).astype(np.int64)
    return states


class Scheme:
    """The g-values under one key. `layer_keys`: one for each layer, 0 to 2**63 - 1; `table_seed`: 0 to 2**32 - 1."""

    def __init__(self, layer_keys: Sequence[int], table_seed: int) -> None:
        assert len(layer_keys) == DEPTH
        coins = _coins(table_seed)
        states = np.arange(TABLE_SIZE, dtype=np.uint64)
        self._values = np.zeros(TABLE_SIZE, dtype=np.uint32)
        for layer, key in enumerate(layer_keys):
            places = _take_in(states, np.full(1, key, dtype=np.uint64)) & np.uint64(TABLE_SIZE - 1)
            self._values |= coins[places] << np.uint32(layer)

    def values(self, states: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The g-values of states, that of layer n in bit n."""
        values: NDArray[np.uint32] = self._values[states]
        return values


def _take_in(state: NDArray[np.uint64], data: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (state + data) * np.uint64(MULTIPLIER) + np.uint64(INCREMENT)


def _coins(seed: int) -> NDArray[np.uint32]:
    """What `torch.randint(0, 2, (TABLE_SIZE,))` gives under this seed: the last bit of each word of MT19937."""
    # RandomState is seeded as Matsumoto and Nishimura 2002 have it, and so is torch; numpy's newer generators are not.
    words = np.random.RandomState(seed).randint(0, 1 << 32, TABLE_SIZE, dtype=np.uint32)
    return words & np.uint32(1)
