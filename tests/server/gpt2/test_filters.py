from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from sluicegate.server.gpt2.filters import FEW, Filters, survivors

GPT2_VOCABULARY = 50257


@dataclass(frozen=True)
class Case:
    """One row's filters."""

    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0

    def reference(self, scores: Tensor) -> Tensor:
        """bool [rows, vocabulary]: what transformers' warpers leave; in float64, to keep rounding out."""
        warpers: Any = LogitsProcessorList()
        if self.top_k is not None:
            warpers.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            warpers.append(TopPLogitsWarper(self.top_p))
        if self.min_p > 0:
            warpers.append(MinPLogitsWarper(self.min_p))
        if self.typical_p < 1:
            warpers.append(TypicalLogitsWarper(self.typical_p))
        filtered: Tensor = warpers(torch.zeros(len(scores), 1, dtype=torch.int64), scores.double())
        return filtered > -torch.inf


CASES = [
    Case(top_k=1),
    Case(top_k=50),
    Case(top_k=1023),
    Case(top_k=1024),
    Case(top_k=5000),
    Case(top_k=10**6),
    Case(top_p=1e-9),
    Case(top_p=0.1),
    Case(top_p=0.9),
    Case(top_p=0.999),
    Case(min_p=0.02),
    Case(min_p=1.0),
    Case(min_p=1e-9),
    Case(typical_p=0.2),
    Case(typical_p=0.95),
    Case(top_k=40, top_p=0.9),
    Case(top_k=2000, top_p=0.5),
    Case(top_k=40, top_p=0.95, min_p=0.05),
    Case(top_p=0.9, typical_p=0.5),
    Case(top_k=60, top_p=0.9, min_p=0.01, typical_p=0.7),
    Case(min_p=0.001, typical_p=0.3),
]


def filters_of(cases: list[Case], vocabulary: int) -> Filters:
    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    return Filters(
        top_k=torch.tensor([min(case.top_k or vocabulary, vocabulary) for case in cases]),
        top_p=column([case.top_p for case in cases]),
        min_p=column([case.min_p for case in cases]),
        typical_p=column([case.typical_p for case in cases]),
    )


def surviving_weights(scores: Tensor, cases: list[Case]) -> Tensor:
    """float64 [rows, vocabulary] as the filters leave them; checks that each row comes once and no part is empty."""
    weights = torch.zeros(scores.shape, dtype=torch.float64)
    rows = []
    for part in survivors(scores, filters_of(cases, scores.shape[1])):
        assert len(part.rows)
        rows += part.rows.tolist()
        weights[part.rows] = weights[part.rows].scatter(-1, part.ids, part.weights)
    assert sorted(rows) == list(range(len(scores)))
    return weights


def random_scores(seed: int, rows: int, vocabulary: int, spread: float) -> Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("spread", [0.3, 3.0, 8.0])
def test_survivors_are_those_of_transformers(case: Case, spread: float) -> None:
    scores = random_scores(1, 3, GPT2_VOCABULARY, spread)

    weights = surviving_weights(scores, [case] * 3)

    assert torch.equal(weights > 0, case.reference(scores))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_survivors_in_a_small_vocabulary_are_those_of_transformers(case: Case) -> None:
    scores = random_scores(2, 50, 97, 2.0)

    weights = surviving_weights(scores, [case] * 50)

    assert torch.equal(weights > 0, case.reference(scores))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_survivors_among_many_equal_scores_have_the_scores_of_those_of_transformers(case: Case) -> None:
    scores = random_scores(3, 2, 4000, 2.0).bfloat16().float()

    weights = surviving_weights(scores, [case] * 2)

    ours, theirs = (scores.masked_fill(~kept, 99.0).sort()[0] for kept in (weights > 0, case.reference(scores)))
    assert torch.equal(ours, theirs)


def test_top_p_that_cuts_between_equal_scores_keeps_the_lower_ids() -> None:
    scores = torch.zeros(2, 2000)
    scores[1, 5:10] = 20.0

    kept = surviving_weights(scores, [Case(top_p=0.5)] * 2) > 0

    assert kept[0].nonzero()[:, 0].tolist() == list(range(1000))
    assert kept[1].nonzero()[:, 0].tolist() == [5, 6, 7]


def test_each_row_has_its_own_filters() -> None:
    scores = random_scores(4, len(CASES), 3 * FEW, 2.0)

    weights = surviving_weights(scores, CASES)

    for row, case in enumerate(CASES):
        assert torch.equal(weights[row] > 0, case.reference(scores[row : row + 1])[0]), case


def test_weights_are_in_proportion_to_probability() -> None:
    scores = random_scores(5, 4, 3000, 2.0)

    weights = surviving_weights(scores, [Case(top_k=100)] * 4)

    kept = weights > 0
    expected = scores.double().masked_fill(~kept, -torch.inf).softmax(-1)
    assert torch.allclose(weights / weights.sum(-1, keepdim=True), expected, rtol=1e-9)


def test_equal_scores_throughout_keep_the_row_whole_under_top_k() -> None:
    weights = surviving_weights(torch.zeros(1, 2000), [Case(top_k=5)])

    assert torch.equal(weights > 0, torch.ones(1, 2000, dtype=torch.bool))
