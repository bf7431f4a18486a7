"""Penalties and biases: what changes the logits of single tokens before anything else looks at them.

Only the tokens concerned are touched (a sequence holds at most a context of them), never the whole
vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sluicegate.server.engine.messages import Sampling

IN_PROMPT, PRODUCED, BIAS = range(3)

LARGEST_LOGIT = 1e30
"""A repetition penalty near 0 makes logits infinite. Softmax would turn one into NaN, and no token could be drawn in
the whole step; this is still finite after division by the lowest temperature."""


ADJUSTMENT = np.dtype(
    [
        ("id", np.int64),
        ("in_prompt", np.float32),
        ("produced", np.float32),
        ("bias", np.float32),
        ("unused", np.float32),
    ]
)
"""What changes one token's logit. It is SgAdjustment of kernels/source/sampling.h, too."""


class Adjustments:
    """One sequence's tokens that are penalised or biased. Host memory; grows with the sequence."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int], capacity: int) -> None:
        """`capacity`: the context length, the most tokens that the sequence can hold."""
        self.repetition_penalty = sampling.repetition_penalty
        self.presence_penalty = sampling.presence_penalty
        self.frequency_penalty = sampling.frequency_penalty
        self._output: list[int] = []
        self._columns: dict[int, int] = {}
        self._ids = np.zeros(capacity + len(sampling.logit_bias), dtype=np.int64)
        self._figures = np.zeros((3, len(self._ids)), dtype=np.float32)
        for id_, bias in sampling.logit_bias.items():
            self._figures[BIAS, self._column(id_)] = bias
        if self.repetition_penalty != 1:
            for id_ in prompt:
                self._figures[IN_PROMPT, self._column(id_)] = 1

    @staticmethod
    def are_needed(sampling: Sampling) -> bool:
        """Whether these parameters change any logit at all."""
        return bool(
            sampling.repetition_penalty != 1
            or sampling.presence_penalty
            or sampling.frequency_penalty
            or sampling.logit_bias
        )

    def __len__(self) -> int:
        return len(self._columns)

    def count(self, start: int, ids: Sequence[int]) -> None:
        """Note that `ids` follow the output's first `start` tokens; what followed them before counts no more."""
        for id_ in reversed(self._output[start:]):
            column = self._columns[id_]
            self._figures[PRODUCED, column] -= 1
            # The last to come is the first to go: a token that this one brought in has the last column.
            if column == len(self) - 1 and not self._figures[:, column].any():
                del self._columns[id_]
        self._output[start:] = ids
        for id_ in ids:
            self._figures[PRODUCED, self._column(id_)] += 1

    def after(self, ids: Sequence[int]) -> Adjustments:
        """What these will be if the output goes on with `ids`."""
        other = copy(self)
        other._output = self._output.copy()
        other._columns = self._columns.copy()
        other._ids = self._ids.copy()
        other._figures = self._figures.copy()
        other.count(len(other._output), ids)
        return other

    def sorted(self) -> NDArray[np.void]:
        """ADJUSTMENT [tokens], in the order of their ids."""
        count = len(self)
        order = np.argsort(self._ids[:count])
        items = np.zeros(count, dtype=ADJUSTMENT)
        items["id"] = self._ids[order]
        items["in_prompt"], items["produced"], items["bias"] = self._figures[:, order]
        return items

    def padded(
        self, width: int
    ) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
        """`ids`: int64 [width], `figures`: float32 [3, width]; the first token repeated fills the rest."""
        columns = np.arange(width)
        columns[len(self) :] = 0
        return self._ids[columns], self._figures[:, columns]

    def _column(self, id_: int) -> int:
        column = self._columns.setdefault(id_, len(self._columns))
        self._ids[column] = id_
        return column


def adjust(logits: Tensor, rows: Sequence[int], adjustments: Sequence[Adjustments]) -> None:
    """Change `logits` (float32 [any, vocabulary]) in place: `adjustments[i]` in row `rows[i]`.

    In this order: repetition penalty over prompt and output (Keskar et al. 2019, section 4.1: a positive
    logit is divided, a negative one multiplied); presence and frequency penalty over the output (OpenAI's
    API reference: logit - count * frequency - (count > 0) * presence); bias.
    """
    active = [(row, item) for row, item in zip(rows, adjustments, strict=True) if len(item)]
    if not active:
        return
    width = max(len(item) for _, item in active)
    padded = [item.padded(width) for _, item in active]
    ids = torch.from_numpy(np.stack([ids for ids, _ in padded])).to(logits.device)
    in_prompt, produced, bias = torch.from_numpy(np.stack([figures for _, figures in padded], axis=1)).to(logits.device)
    repetition, presence, frequency = torch.tensor(
        [(item.repetition_penalty, item.presence_penalty, item.frequency_penalty) for _, item in active],
        dtype=torch.float32,
        device=logits.device,
    ).T[:, :, None]
    at = torch.tensor([row for row, _ in active], device=logits.device)[:, None]
    values = logits[at, ids]
    penalised = torch.where(values < 0, values * repetition, values / repetition)
    values = torch.where((in_prompt > 0) | (produced > 0), penalised, values)
    values = values - produced * frequency - (produced > 0) * presence + bias
    logits[at, ids] = values.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
