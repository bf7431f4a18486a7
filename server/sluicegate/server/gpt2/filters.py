"""top-k, top-p, min-p and typical-p, each as its warper in transformers' generation/logits_process.py.

All four are decided on the most likely few candidates. Only rows whose filters reach further (say, a flat
distribution under top-p, or typical-p alone) are looked at as a whole: sorting 32 rows of 50,257 costs more
than the forward pass.

Candidates come in order of their scores, the highest first, and of equal scores (common in bfloat16) the lower id
first. That order is part of the result: top-p may cut between equal scores, which transformers leaves to its unstable
sort, and a draw must not depend on how a kernel breaks ties.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FEW = 1024
MARGIN = 32  # of candidates past a top_k, so that its last one can be told from what follows


@dataclass(frozen=True, slots=True)
class Filters:
    """One entry a row. `top_k`: int64, vocabulary size = off; the others float64, off at 1, 0 and 1."""

    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    typical_p: Tensor

    def cut(self, vocabulary: int) -> Tensor:
        """bool [rows]: which of them cut the candidates behind some score, as all but typical-p do."""
        return (self.top_k < vocabulary) | (self.top_p < 1) | (self.min_p > 0)

    def select(self, rows: Tensor) -> Filters:
        """The filters of some rows (int64 indices)."""
        return Filters(self.top_k[rows], self.top_p[rows], self.min_p[rows], self.typical_p[rows])


@dataclass(frozen=True, slots=True)
class Survivors:
    """What the filters left of some rows.

    `rows`: int64 [n], indices of the filtered scores' rows; `ids`: int64 [n, width]; `weights`: float64 [n,
    width], in proportion to probability, zero where a filter removed the candidate.
    """

    rows: Tensor
    ids: Tensor
    weights: Tensor


def survivors(scores: Tensor, filters: Filters) -> Iterator[Survivors]:
    """Apply each row's filters to `scores` (float32 [rows, vocabulary], finite, temperature applied).

    Every row is in exactly one of the results, and none of them is empty.
    """
    return _survivors(scores, filters, _log_total(scores), FEW)


def survivors_among(scores: Tensor, filters: Filters, most: int) -> Iterator[Survivors]:
    """The same where every row's top_k is `most` or less, for less: nothing is summed over the vocabulary.

    Weights are then relative to the likeliest token's, and depend on their own row alone, to the bit; they are computed
    where `filters` are, and so is the result.
    """
    log_total = None if most < scores.shape[1] else _log_total(scores).to(filters.top_k.device)
    return _survivors(scores, filters, log_total, most + MARGIN)


def _survivors(scores: Tensor, filters: Filters, log_total: Tensor | None, few: int) -> Iterator[Survivors]:
    vocabulary, device = scores.shape[1], filters.top_k.device
    scale = scores.amax(-1).to(device).double() if log_total is None else log_total
    whole = torch.arange(len(scores), device=device)
    if few < vocabulary:
        is_cut = filters.cut(vocabulary)
        near, whole = whole[is_cut], whole[~is_cut]
        if len(near):
            values, ids = _most_likely(_select(scores, near), few)
            values, ids = values.to(device).double(), ids.to(device)
            weights, settled = _filter(values, filters.select(near), scale[near], vocabulary)
            if settled.any():
                yield Survivors(near[settled], ids[settled], weights[settled])
            whole = torch.cat([whole, near[~settled]])
    if len(whole):
        weights = _filter_whole(_select(scores, whole).to(device), filters.select(whole), scale[whole])
        yield Survivors(whole, torch.arange(vocabulary, device=device).expand(len(whole), -1), weights)


def _select(scores: Tensor, rows: Tensor) -> Tensor:
    return scores if len(rows) == len(scores) else scores[rows.to(scores.device)]


def prefix_survivors(scores: Tensor, filters: Filters, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Apply top-k, top-p and min-p, and no typical-p, to the `width` most likely of each row; waits for nothing.

    Ids and weights [rows, width] as in Survivors, and bool [rows]: whether these candidates are enough.
    """
    vocabulary = scores.shape[1]
    values, ids = _most_likely(scores, width)
    complete, log_total = width == vocabulary, _log_total(scores)
    probabilities, kept, settled = _prefix(values.double(), filters, log_total, vocabulary, complete=complete)
    return ids, probabilities * kept, settled


def _log_total(scores: Tensor) -> Tensor:
    """logsumexp as float64: a float32 one is off by more than the mass of the tokens at which top-p cuts."""
    highest = scores.amax(-1, keepdim=True)
    return highest[:, 0].double() + (scores - highest).exp().sum(-1, dtype=torch.float64).log()


def _most_likely(scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The highest scores of each row and their ids, in the candidates' order."""
    if width == scores.shape[1]:
        values, ids = torch.sort(scores, dim=-1, descending=True, stable=True)
        return values, ids
    values, ids = scores.topk(width, sorted=False)
    ids, columns = torch.sort(ids, dim=-1)
    values, columns = torch.sort(values.gather(-1, columns), dim=-1, descending=True, stable=True)
    return values, ids.gather(-1, columns)


def _filter(values: Tensor, filters: Filters, log_total: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Weights of the candidates (see Survivors), and which rows are settled by these candidates alone.

    `values`: float64 [rows, width], descending; `log_total`: logsumexp of the whole row, or any number where top-k is
    on.
    """
    probabilities, kept, settled = _prefix(values, filters, log_total, vocabulary, complete=False)
    kept &= _is_typical(values, kept, filters.typical_p)
    return probabilities * kept, settled


def _filter_whole(scores: Tensor, filters: Filters, log_total: Tensor) -> Tensor:
    """Weights of all entries, float64 [rows, vocabulary]: only to find where to cut is anything put in order."""
    values, vocabulary = scores.double(), scores.shape[1]
    kept = torch.ones_like(scores, dtype=torch.bool)
    if filters.cut(vocabulary).any():
        ordered = _ascending(scores).flip(-1).double()
        _, are_kept, _ = _prefix(ordered, filters, log_total, vocabulary, complete=True)
        count = are_kept.sum(-1, keepdim=True)
        last = ordered.gather(-1, count - 1)
        above, equal = values > last, values == last
        kept = above | (equal & (equal.cumsum(-1) <= count - above.sum(-1, keepdim=True)))
    kept &= _is_typical(values, kept, filters.typical_p)
    return (values - log_total[:, None]).exp() * kept


def _ascending(values: Tensor) -> Tensor:
    """The values of each row in order. On a CPU by NumPy, which has vector instructions for it."""
    return torch.from_numpy(np.sort(values.numpy())) if values.device.type == "cpu" else values.sort(-1)[0]


def _ascending_columns(values: Tensor) -> Tensor:
    """The columns of each row by their values; equal ones in any order."""
    return torch.from_numpy(np.argsort(values.numpy())) if values.device.type == "cpu" else values.argsort(-1)


def _prefix(
    values: Tensor, filters: Filters, log_total: Tensor, vocabulary: int, *, complete: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities of the candidates, which of them are kept, and which rows are settled.

    top-k, top-p and min-p each keep a prefix of the candidates. A row is settled once what follows its prefix is
    certain to be filtered as well.
    """
    probabilities = (values - log_total[:, None]).exp()
    last = values[:, -1]

    kth = values.gather(-1, (filters.top_k[:, None] - 1).clamp(max=values.shape[1] - 1))
    kept = values >= kth
    limited = filters.top_k < vocabulary
    total = torch.where(limited, (probabilities * kept).sum(-1), 1.0)
    settled = ~limited | (kth[:, 0] > last)

    before = (probabilities * kept).cumsum(-1) - probabilities
    kept &= (before < (filters.top_p * total)[:, None]) | (filters.top_p == 1)[:, None]
    kept[:, 0].fill_(value=True)
    kept &= probabilities >= filters.min_p[:, None] * probabilities[:, :1]

    lowest = values.gather(-1, (kept.sum(-1, keepdim=True) - 1).clamp(min=0))[:, 0]
    settled = torch.full_like(settled, True) if complete else settled & (lowest > last)
    return probabilities, kept, settled


def _is_typical(values: Tensor, kept: Tensor, typical_p: Tensor) -> Tensor:
    """bool [rows, width]: candidates whose surprise is nearest the entropy, up to the mass `typical_p`."""
    active = typical_p < 1
    if not active.any():
        return torch.ones_like(kept)
    log_q = values.masked_fill(~kept, -torch.inf).log_softmax(-1)
    q = log_q.exp()
    entropy = -torch.where(kept, log_q * q, 0.0).sum(-1, keepdim=True)
    distance = (-log_q - entropy).abs()
    columns = _ascending_columns(distance)
    short = q.gather(-1, columns).cumsum(-1) < typical_p[:, None]
    furthest = distance.gather(-1, columns.gather(-1, short.sum(-1, keepdim=True).clamp(max=values.shape[1] - 1)))
    return (distance <= furthest) | ~active[:, None]
