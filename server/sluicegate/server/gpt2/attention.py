"""Attention of a step's rows over their slots of the KV cache, in two ways that give the same result.

`EachAlone` reads every slot in place, just as long as it is: no padding, no copy, and a sequence's result
does not depend on the others. `DecodesTogether` gathers the single-token rows into one padded call: more
memory traffic, but three kernels a layer where the other needs three for every row, which is what counts on
a GPU.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from sluicegate.server.gpt2.batch import Batch, Span

WIDTH_MULTIPLE = 64  # padded widths change rarely, so that kernels and allocations are reused


class Attention(Protocol):
    """One step's attention, prepared once and called for every layer."""

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[rows, heads, head_width], as `queries`; `keys`, `values`: one layer's cache, after its write."""


class EachAlone:
    """Every chunk on its own. Scores are scaled by 1/sqrt(head_width) (Vaswani et al. 2017, 3.2.1)."""

    def __init__(self, batch: Batch, dtype: torch.dtype, first_row: int = 0) -> None:
        spans = [span for span in batch.spans if span.first >= first_row]
        self._parts = [(span, _causal_mask(span, dtype, batch.ids.device)) for span in spans]

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        output = torch.empty_like(queries)
        for span, mask in self._parts:
            rows = slice(span.first, span.last)
            output[rows] = functional.scaled_dot_product_attention(
                queries[rows].transpose(0, 1).unsqueeze(0),
                keys[span.slot, :, : span.end].unsqueeze(0),
                values[span.slot, :, : span.end].unsqueeze(0),
                attn_mask=mask,
                is_causal=span.start == 0 and span.end > 1,
            )[0].transpose(0, 1)
        return output


class Decodes:
    """Single-token rows in one call over a common width, by operations whose shapes do not depend on any value."""

    def __init__(self, slots: Tensor, positions: Tensor, dtype: torch.dtype, width: int) -> None:
        """`slots`, `positions`: int64 [rows], each position less than `width`."""
        self._slots = slots
        self._width = width
        hidden = torch.arange(width, device=slots.device) > positions[:, None]
        mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, -torch.inf)
        self._mask = mask[:, None, None, :]

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(
            queries[:, :, None],
            keys[:, :, : self._width].index_select(0, self._slots),
            values[:, :, : self._width].index_select(0, self._slots),
            attn_mask=self._mask,
        )[:, :, 0]


class DecodesTogether:
    """Single-token rows in one call; longer chunks each alone."""

    def __init__(self, batch: Batch, dtype: torch.dtype, capacity: int) -> None:
        self._rows = rows = batch.decode_rows
        self._longer = EachAlone(batch, dtype, first_row=rows)
        longest = max((span.end for span in batch.spans if span.first < rows), default=0)
        width = min(-(-longest // WIDTH_MULTIPLE) * WIDTH_MULTIPLE, capacity)
        self._decodes = Decodes(batch.slots[:rows], batch.positions[:rows], dtype, width)

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        output = self._longer(queries, keys, values)
        if self._rows:
            output[: self._rows] = self._decodes(queries[: self._rows], keys, values)
        return output


def _causal_mask(span: Span, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Additive [tokens, end]; None where nothing is hidden or SDPA's own causal mask serves (from 0)."""
    if span.start == 0 or span.last - span.first == 1:
        return None
    tokens = torch.arange(span.start, span.end, device=device)
    hidden = torch.arange(span.end, device=device) > tokens[:, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill(hidden, -torch.inf)
