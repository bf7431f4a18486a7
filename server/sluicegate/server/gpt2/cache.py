"""The KV cache: one fixed slot of the full context for each sequence that can run at once."""

from __future__ import annotations

import torch
from torch import Tensor

from sluicegate.server.gpt2.config import Gpt2Config
from sluicegate.server.gpt2.kernels.library import POSITIONS_MULTIPLE

# Of the free memory, what is left to the activations and logits of a step.
RESERVED_FRACTION = 0.1


def slot_bytes(config: Gpt2Config, dtype: torch.dtype) -> int:
    """Bytes of one slot at most: keys and values of every layer and position, these in whole blocks, as kernels lay
    them out."""
    positions = -(-config.context_length // POSITIONS_MULTIPLE) * POSITIONS_MULTIPLE
    return 2 * config.layers * positions * config.width * dtype.itemsize


def slots_that_fit(config: Gpt2Config, dtype: torch.dtype, free_bytes: int, beside: int = 0) -> int:
    """How many slots, each with so many bytes beside it, fit `free_bytes` less a tenth for a step's activations."""
    return int(free_bytes * (1 - RESERVED_FRACTION)) // (slot_bytes(config, dtype) + beside)


class Cache:
    """Keys and values, [slots, heads, positions, head_width] a layer, allocated once.

    Entries past a sequence's length are stale but finite: a padded attention multiplies them by zero, which
    is only harmless for numbers. Hence the zeros at the start, and `clear` after a sequence that produced
    NaN.
    """

    def __init__(self, config: Gpt2Config, slots: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (2, config.layers, slots, config.heads, config.context_length, config.head_width)
        self._entries = torch.zeros(shape, dtype=dtype, device=device)
        self.keys: tuple[Tensor, ...] = self._entries[0].unbind()
        self.values: tuple[Tensor, ...] = self._entries[1].unbind()

    @property
    def slots(self) -> int:
        return self._entries.shape[2]

    @property
    def nbytes(self) -> int:
        return self._entries.nbytes

    def write(self, layer: int, slots: Tensor, positions: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store rows. `slots`, `positions`: int64 [rows]; `keys`, `values`: [rows, heads, head_width]."""
        self.keys[layer][slots, :, positions] = keys
        self.values[layer][slots, :, positions] = values

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of slot `source` into slot `target`."""
        self._entries[:, :, target, :, :length] = self._entries[:, :, source, :, :length]

    def clear(self, slot: int) -> None:
        """Zero a slot."""
        self._entries[:, :, slot] = 0
