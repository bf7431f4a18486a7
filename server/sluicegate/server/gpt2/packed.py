"""GPT-2 on a CPU through the C++ kernels: the same network as network.py, with packed weights and a cache of its own.

A sequence's results do not depend on its batch, nor on how its prompt was cut into chunks, to the bit, in either dtype:
every sum runs in an order that is fixed by its own row. In bfloat16, weights, cache and the operands of products are
rounded; sums, norms and the residual stream are float32.
"""

from __future__ import annotations

import ctypes
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sluicegate.server.engine.runner import Drawn
from sluicegate.server.gpt2.batch import Batch
from sluicegate.server.gpt2.config import Gpt2Config
from sluicegate.server.gpt2.errors import NonFiniteRows
from sluicegate.server.gpt2.kernels import Kernels
from sluicegate.server.gpt2.kernels.library import (
    LARGEST_HEAD_WIDTH,
    PANEL,
    POSITIONS_MULTIPLE,
    WIDTH_MULTIPLE,
    CLayer,
    CLinear,
    CModel,
)
from sluicegate.server.gpt2.pages import Arena, arena_bytes, return_freed
from sluicegate.server.gpt2.sampler import Draws, draw_checked

CPU = torch.device("cpu")


def can_be_packed(config: Gpt2Config, dtype: torch.dtype) -> bool:
    """Whether the kernels serve a model of this shape."""
    widths = (config.width, config.inner_width, config.head_width)
    return (
        dtype in (torch.float32, torch.bfloat16)
        and all(width % WIDTH_MULTIPLE == 0 for width in widths)
        and config.head_width <= LARGEST_HEAD_WIDTH
    )


def packed_size(columns: int, k: int) -> int:
    """Numbers of a packed weight [columns, k]: whole panels."""
    return -(-columns // PANEL) * PANEL * k


def pack(weight: Tensor, packed: Tensor, in_tiles: bool) -> None:
    """Lay `weight` [out, in] out as the kernels read it (source/linear.h). Into `packed`, `packed_size` numbers.

    `in_tiles`: bfloat16 for AMX.
    """
    columns, k = weight.shape
    whole = functional.pad(weight, (0, 0, 0, -columns % PANEL))
    if weight.dtype == torch.float32:
        packed.view(-1, k, PANEL).copy_(whole.view(-1, PANEL, k).transpose(1, 2))
    elif in_tiles:
        packed.view(-1, k // 32, 2, 16, 16, 2).copy_(whole.view(-1, 2, 16, k // 32, 16, 2).permute(0, 3, 1, 4, 2, 5))
    else:
        packed.view(-1, k // 2, PANEL, 2).copy_(whole.view(-1, PANEL, k // 2, 2).transpose(1, 2))


class PackedCache:
    """Keys and values of all slots, laid out as the kernels read them.

    `entries`: [2, layers, slots, heads, positions * head_width], with the positions in whole blocks of 64.

    Entries past a sequence's length are stale but finite, as in cache.Cache.
    """

    def __init__(self, config: Gpt2Config, slots: int, dtype: torch.dtype) -> None:
        self._block = POSITIONS_MULTIPLE * config.head_width
        blocks = -(-config.context_length // POSITIONS_MULTIPLE)
        shape = (2, config.layers, slots, config.heads, blocks * self._block)
        count = 2 * config.layers * slots * config.heads * blocks * self._block
        self.entries = Arena(count * dtype.itemsize).take(count, dtype).view(shape)
        self.entries.zero_()  # takes the pages from the system now, so that no step has to wait for them

    @property
    def slots(self) -> int:
        return self.entries.shape[2]

    @property
    def nbytes(self) -> int:
        return self.entries.nbytes

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of slot `source`, and what else is in their blocks, into slot `target`."""
        end = -(-length // POSITIONS_MULTIPLE) * self._block
        self.entries[:, :, target, :, :end] = self.entries[:, :, source, :, :end]

    def clear(self, slot: int) -> None:
        """Zero a slot."""
        self.entries[:, :, slot] = 0


class PackedNetwork:
    """The forward pass. Immutable; the sequences' state is in the PackedCache."""

    device = CPU

    def __init__(self, config: Gpt2Config, weights: dict[str, Tensor], kernels: Kernels) -> None:
        """`weights`: as for network.Network, on the CPU, of a shape that `can_be_packed`; taken out one by one.

        Raises MemoryError.
        """
        self.config = config
        self.kernels = kernels
        self.dtype = weights["wte.weight"].dtype
        self._vectors: list[Tensor] = []  # kept alive for the kernels, like the packed weights
        linears = [name for name in weights if name.startswith("h.") and weights[name].dim() == 2]
        heads = ["wte.weight"] if config.tied else ["wte.weight", "lm_head.weight"]
        sizes = [packed_size(*reversed(weights[name].shape)) for name in linears]
        sizes += [packed_size(*weights[name].shape) for name in heads]
        self._arena = Arena(arena_bytes(sizes, self.dtype))
        embedding = self._pack(weights.pop("wte.weight"))
        self._layers = (CLayer * config.layers)(*(self._layer(weights, f"h.{i}") for i in range(config.layers)))
        self._model = CModel(
            is_bfloat16=self.dtype == torch.bfloat16,
            layers=config.layers,
            heads=config.heads,
            width=config.width,
            inner_width=config.inner_width,
            context_length=config.context_length,
            vocabulary_size=config.vocabulary_size,
            epsilon=config.epsilon,
            token_embedding=embedding,
            position_embedding=self._keep(weights.pop("wpe.weight")),
            head=embedding if config.tied else self._pack(weights.pop("lm_head.weight")),
            final_norm_weight=self._keep(weights.pop("ln_f.weight")),
            final_norm_bias=self._keep(weights.pop("ln_f.bias")),
            blocks=ctypes.cast(self._layers, ctypes.POINTER(CLayer)),
        )

    def new_cache(self, slots: int) -> PackedCache:
        """An empty cache for this network. Raises MemoryError."""
        return PackedCache(self.config, slots, self.dtype)

    def forward(self, batch: Batch, cache: PackedCache) -> Tensor:
        """Feed the batch: its keys and values go into `cache`. Returns the final hidden float32 [rows, width]."""
        return self.kernels.forward(self._model, batch, cache.entries, cache.slots)

    def logits(self, rows: Tensor) -> Tensor:
        """float32 [rows, vocabulary] of final hidden rows [rows, width]; the caller owns the result."""
        return self.kernels.logits(self._model, rows.contiguous())

    def draw(self, rows: Tensor, draws: Draws) -> list[Drawn]:
        """A token for each final hidden row [rows, width], as sampler.draw would draw it. Raises NonFiniteRows.

        The kernels draw them, but for rows that get a watermark.
        """
        if draws.marks is None:
            return self.kernels.draw(self._model, rows.contiguous(), draws)
        is_marked = draws.marks.among(len(draws))
        drawn: dict[int, Drawn] = {}
        for places, draw_rows in (
            (np.flatnonzero(is_marked).tolist(), self._draw_by_torch),
            (np.flatnonzero(~is_marked).tolist(), partial(self.kernels.draw, self._model)),
        ):
            try:
                found = draw_rows(rows[places], draws.select(places)) if places else ()
            except NonFiniteRows as error:
                raise NonFiniteRows([places[row] for row in error.rows]) from error
            drawn.update(zip(places, found, strict=True))
        return [drawn[row] for row in range(len(draws))]

    def _draw_by_torch(self, rows: Tensor, draws: Draws) -> list[Drawn]:
        return draw_checked(self.logits(rows), draws)

    def _layer(self, weights: dict[str, Tensor], prefix: str) -> CLayer:
        def linear(name: str) -> CLinear:
            weight = weights.pop(f"{prefix}.{name}.weight")
            return CLinear(self._pack(weight.t()), self._keep(weights.pop(f"{prefix}.{name}.bias")))

        def vector(name: str) -> int:
            return self._keep(weights.pop(f"{prefix}.{name}"))

        return_freed()  # the last layer's weights
        return CLayer(
            attention_norm_weight=vector("ln_1.weight"),
            attention_norm_bias=vector("ln_1.bias"),
            attention_in=linear("attn.c_attn"),
            attention_out=linear("attn.c_proj"),
            mlp_norm_weight=vector("ln_2.weight"),
            mlp_norm_bias=vector("ln_2.bias"),
            mlp_in=linear("mlp.c_fc"),
            mlp_out=linear("mlp.c_proj"),
        )

    def _pack(self, weight: Tensor) -> int:
        packed = self._arena.take(packed_size(*weight.shape), self.dtype)
        pack(weight, packed, self.kernels.tier.has_tiles)
        return packed.data_ptr()

    def _keep(self, vector: Tensor) -> int:
        self._vectors.append(vector.float().contiguous())
        return self._vectors[-1].data_ptr()
