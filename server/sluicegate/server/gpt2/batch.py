"""One step's chunks, laid out as rows of tokens for the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sluicegate.server.engine.runner import Chunk


@dataclass(frozen=True, slots=True)
class Span:
    """One chunk's rows [first, last) in the batch; its tokens stand at positions start.. of `slot`."""

    first: int
    last: int
    slot: int
    start: int

    @property
    def end(self) -> int:
        """The slot's length once this chunk is fed."""
        return self.start + self.last - self.first


@dataclass(frozen=True, slots=True)
class Batch:
    """Flattened rows, those of single-token chunks first.

    `ids`, `positions`, `slots`: int64 [rows]; `spans`: one for each chunk, in the chunks' order;
    `decode_rows`: how many rows at the front are chunks of one token.
    """

    ids: Tensor
    positions: Tensor
    slots: Tensor
    spans: tuple[Span, ...]
    decode_rows: int


def lay_out(chunks: Sequence[Chunk], device: torch.device) -> Batch:
    """The batch of these chunks; every chunk has at least one id, and no two share a slot."""
    order = sorted(range(len(chunks)), key=lambda index: len(chunks[index].ids) > 1)
    spans: dict[int, Span] = {}
    ids: list[int] = []
    row = 0
    for index in order:
        chunk = chunks[index]
        spans[index] = Span(row, row + len(chunk.ids), chunk.slot, chunk.start)
        row += len(chunk.ids)
        ids.extend(chunk.ids)
    lengths = [len(chunks[index].ids) for index in order]
    rows = np.empty((3, row), dtype=np.int64)
    rows[0] = ids
    rows[1] = np.concatenate([np.arange(spans[index].start, spans[index].end) for index in order])
    rows[2] = np.repeat([chunks[index].slot for index in order], lengths)
    on_device = torch.from_numpy(rows).to(device)
    return Batch(
        ids=on_device[0],
        positions=on_device[1],
        slots=on_device[2],
        spans=tuple(spans[index] for index in range(len(chunks))),
        decode_rows=lengths.count(1),
    )
