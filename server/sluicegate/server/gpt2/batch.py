"""One step's chunks, laid out as rows of tokens for the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sluicegate.server.engine.runner import Chunk
from sluicegate.server.gpt2.device import upload


class Span(NamedTuple):
    """One chunk's rows [first, last) in the batch; its tokens stand at positions start.. of `slot`.

    A tuple, so that a step's spans become an array in one go. It is SgSpan of kernels/source/forward.cpp, too.
    """

    first: int
    last: int
    slot: int
    start: int

    @property
    def end(self) -> int:
        """The slot's length once this chunk is fed."""
        return self.start + self.last - self.first


@dataclass(frozen=True)
class Batch:
    """Flattened rows, those of single-token chunks first.

    `rows`: int64 [3, rows], in host memory: token ids, positions and slots; `spans`: one for each chunk, in the
    chunks' order; `decode_rows`: how many rows at the front are chunks of one token; `device`: the network's.
    """

    rows: NDArray[np.int64]
    spans: tuple[Span, ...]
    decode_rows: int
    device: torch.device

    @property
    def ids(self) -> Tensor:
        """int64 [rows], on the device."""
        return self._on_device[0]

    @property
    def positions(self) -> Tensor:
        """int64 [rows], on the device."""
        return self._on_device[1]

    @property
    def slots(self) -> Tensor:
        """int64 [rows], on the device."""
        return self._on_device[2]

    @cached_property
    def _on_device(self) -> Tensor:
        """Made when it is first asked for: the kernels read `rows`."""
        return upload(torch.from_numpy(self.rows), self.device)


def lay_out(chunks: Sequence[Chunk], device: torch.device) -> Batch:
    """The batch of these chunks; every chunk has at least one id, and no two share a slot."""
    order = sorted(range(len(chunks)), key=lambda index: len(chunks[index].ids) > 1)
    spans: dict[int, Span] = {}
    ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    for index in order:
        chunk, count = chunks[index], len(chunks[index].ids)
        spans[index] = Span(len(ids), len(ids) + count, chunk.slot, chunk.start)
        ids += chunk.ids
        positions += range(chunk.start, chunk.start + count)
        slots += [chunk.slot] * count
    return Batch(
        rows=np.array((ids, positions, slots), dtype=np.int64),
        spans=tuple(spans[index] for index in range(len(chunks))),
        decode_rows=sum(len(chunk.ids) == 1 for chunk in chunks),
        device=device,
    )
