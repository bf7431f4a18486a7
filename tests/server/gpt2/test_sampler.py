from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.gpt2.filters import FEW
from sluicegate.server.gpt2.sampler import Sampler, draw

VOCABULARY, CONTEXT = 40, 128


def random_logits(seed: int, rows: int, vocabulary: int = VOCABULARY) -> Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 2


def sampler_of(*samplings: Sampling, prompt: list[int] | None = None, vocabulary: int = VOCABULARY) -> Sampler:
    sampler = Sampler(len(samplings), CONTEXT, vocabulary)
    for slot, sampling in enumerate(samplings):
        sampler.open(slot, sampling, 0, prompt or [0])
    return sampler


def draw_ids(sampler: Sampler, logits: Tensor, positions: list[int]) -> list[int]:
    return [drawn.id for drawn in draw(logits.clone(), sampler.draws([*range(len(logits))], positions))]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0),
        Sampling(temperature=0, top_k=1, top_p=0.5),
        Sampling(temperature=1e-9),
        Sampling(temperature=1.5, top_k=1),
        Sampling(top_p=1e-6),
        Sampling(min_p=1.0),
    ],
)
def test_greedy_in_any_spelling_takes_the_highest_logit(sampling: Sampling) -> None:
    logits = random_logits(1, 30)
    sampler = sampler_of(*[sampling] * 30)

    assert draw_ids(sampler, logits, [9] * 30) == logits.argmax(-1).tolist()


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.6),
        Sampling(temperature=2.0),
        Sampling(top_k=8),
        Sampling(top_p=0.8, temperature=1.4),
        Sampling(min_p=0.1),
        Sampling(typical_p=0.6),
    ],
    ids=str,
)
def test_draws_follow_the_probabilities(sampling: Sampling) -> None:
    rounds, rows = 200, 50
    logits = random_logits(2, 1)[0]
    sampler = Sampler(rows, CONTEXT, VOCABULARY)
    for slot in range(rows):
        sampler.open(slot, msgspec.structs.replace(sampling, seed=slot), 0, [0])
    probabilities = expected_probabilities(logits, sampling)

    counts: Counter[int] = Counter()
    for position in range(rounds):
        counts.update(draw_ids(sampler, logits.expand(rows, -1), [position] * rows))

    expected = probabilities * rounds * rows
    often = expected >= 5
    observed = np.array([counts[id_] for id_ in range(VOCABULARY)])
    chi_squared = float((((observed - expected) ** 2)[often] / expected[often]).sum())
    freedom = int(often.sum()) - 1
    assert observed[probabilities == 0].sum() == 0
    assert chi_squared < freedom + 4 * (2 * freedom) ** 0.5 + 8  # far out in the tail of the distribution


def test_filter_that_reaches_past_the_likeliest_few_in_every_row_still_draws() -> None:
    flat = torch.zeros(2, 4 * FEW)
    sampler = sampler_of(Sampling(top_p=0.9, seed=1), Sampling(typical_p=0.9, seed=2), vocabulary=4 * FEW)

    ids = draw_ids(sampler, flat, [9, 9])

    assert all(0 <= id_ < 4 * FEW for id_ in ids)


def expected_probabilities(logits: Tensor, sampling: Sampling) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What transformers' own warpers leave of one row, as probabilities."""
    warpers: Any = LogitsProcessorList()
    warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k is not None:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    if sampling.typical_p < 1:
        warpers.append(TypicalLogitsWarper(sampling.typical_p))
    warped: Tensor = warpers(torch.zeros(1, 1, dtype=torch.int64), logits[None].clone())[0]
    probabilities: np.ndarray[tuple[int], np.dtype[np.float64]] = warped.double().softmax(-1).numpy()
    return probabilities
