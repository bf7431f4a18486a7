"""Which rows of a step are drawn with a watermark, and what it does to their candidates' weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sluicegate.server.engine.messages import WatermarkKey
from sluicegate.server.watermark import Scheme, play, states_of


@dataclass(frozen=True, slots=True)
class Marks:
    """The rows that are drawn among few candidates, for the sake of a watermark.

    `contexts`: by row the hash of its context, as watermark.Contexts gives it; None where the token gets no mark.
    """

    scheme: Scheme
    contexts: Mapping[int, int | None]

    def among(self, rows: int) -> NDArray[np.bool_]:
        """bool [rows]: which of so many these are."""
        found = np.zeros(rows, dtype=np.bool_)
        found[list(self.contexts)] = True
        return found

    def select(self, rows: Sequence[int]) -> Marks:
        """Those among some rows, by their new places."""
        return Marks(self.scheme, {place: self.contexts[row] for place, row in enumerate(rows) if row in self.contexts})


def build_scheme(key: WatermarkKey | None) -> Scheme | None:
    """What sequences are marked by under this key, if there is one."""
    return None if key is None else Scheme(key.layers, key.table_seed)


def mark(ids: Tensor, weights: Tensor, marks: Marks) -> Tensor:
    """The weights after the tournament: float64 [rows, n] of such, with int64 `ids` [rows, n], all on the host.

    `marks` has every row. Rows without a context keep their weights.
    """
    places = [row for row, context in sorted(marks.contexts.items()) if context is not None]
    contexts = np.array([marks.contexts[row] for row in places], dtype=np.uint64)
    own = weights.numpy()[places]
    values = marks.scheme.values(states_of(contexts[:, None], ids.numpy()[places]))
    marked = weights.clone()
    marked[places] = torch.from_numpy(play(own / own.sum(-1, keepdims=True), values))
    return marked
