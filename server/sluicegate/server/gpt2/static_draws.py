"""Draws next tokens in a way that a CUDA graph can record: all shapes are known before, and nothing waits for the host.

The tokens are those of sampler.py for rows without penalties, biases, typical-p and alternatives. Where top-p or min-p
may reach further than the candidates that are looked at, the row says that it is not settled, and is to be drawn again
among more.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from sluicegate.server.gpt2.draws import pick, pick_among
from sluicegate.server.gpt2.filters import FEW, Filters, prefix_survivors
from sluicegate.server.gpt2.sampler import PARAMETERS
from sluicegate.server.gpt2.table import Table

ROW = np.dtype(
    [
        ("fed_id", np.int64),
        ("fed_position", np.int64),
        ("slot", np.int64),
        ("is_awaited", np.int64),  # fed is what was drawn last for the slot
        ("parameters", PARAMETERS),
    ]
)
"""What one row of a step feeds, and how its next token is drawn."""

RESULT = np.dtype([("id", np.int64), ("logprob", np.float64), ("is_finite", np.int64), ("is_settled", np.int64)])
"""What came of it."""


class Reach(IntEnum):
    """How much a draw looks at. What reaches further draws for all rows that need less."""

    LIKELIEST = 0  # greedy
    UNFILTERED = 1
    FEW = 2  # top-k, top-p and min-p among the most likely FEW
    ALL = 3  # the same among all of the vocabulary


def draw_static(logits: Tensor, rows: Table, times: Tensor | None, reach: Reach) -> tuple[Tensor, Tensor]:
    """Ids, int64 [rows], and whether they are settled, bool [rows].

    `logits`: float32 [rows, vocabulary]; `rows`: ROW; `times`: as `waiting_times` gives them, None for LIKELIEST. A row
    that needs more than `reach` gets some id of the vocabulary, since what is drawn in vain may be fed all the same.
    """
    likeliest = logits.argmax(-1)
    if reach is Reach.LIKELIEST:
        return likeliest, torch.ones_like(likeliest, dtype=torch.bool)
    assert times is not None
    scores = logits / rows["temperature"][:, None]
    ids = pick((scores - scores.amax(-1, keepdim=True)).exp(), times)
    is_greedy, is_filtered = rows["is_greedy"] != 0, rows["is_filtered"] != 0
    settled = torch.ones_like(is_greedy)
    if reach is not Reach.UNFILTERED:
        width = min(FEW, logits.shape[1]) if reach is Reach.FEW else logits.shape[1]
        filters = Filters(rows["top_k"].long().clamp(min=1), rows["top_p"], rows["min_p"], rows["typical_p"])
        candidates, weights, are_settled = prefix_survivors(scores, filters, width)
        ids = torch.where(is_filtered, pick_among(candidates, weights, times), ids)
        settled = are_settled | ~is_filtered
    ids = torch.where(is_greedy, likeliest, ids)
    return ids.clamp(max=logits.shape[1] - 1), settled | is_greedy
