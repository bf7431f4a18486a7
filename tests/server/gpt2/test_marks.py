"""Draws with a watermark: transformers' chain of processors with its watermark at the end, row by row."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from watermarks import processor_of, scheme_of

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.gpt2.sampler import Draws, Sampler, draw
from sluicegate.server.watermark import MOST_CANDIDATES

KEY, VOCABULARY, CONTEXT = 6, 1000, 128
PROMPT = [11, 12, 13, 14, 15]
MARKED = Sampling(watermark=True)


def logits_of(rows: int, seed: int = 1, vocabulary: int = VOCABULARY) -> Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 2


def draws_of(samplings: list[Sampling], fed: list[int] | None = None, vocabulary: int = VOCABULARY) -> Draws:
    sampler = Sampler(len(samplings), CONTEXT, vocabulary, scheme_of(KEY))
    for slot, sampling in enumerate(samplings):
        sampler.open(slot, sampling, slot, PROMPT)
        sampler.feed(slot, 0, PROMPT + (fed or []))
    return sampler.draws([*range(len(samplings))], [len(PROMPT) + len(fed or [])] * len(samplings))


def expected(logits: Tensor, sampling: Sampling, context: list[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What transformers' warpers leave of one row, and its watermark makes of that behind this context."""
    warpers: Any = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    warpers.append(TopKLogitsWarper(min(sampling.top_k or MOST_CANDIDATES, MOST_CANDIDATES)))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    warped: Tensor = warpers(torch.zeros(1, 1, dtype=torch.int64), logits[None].clone()).double()
    processor = processor_of(KEY)
    processor(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, len(logits)))
    for id_ in context[-4:]:
        marked = processor(torch.tensor([[id_]]), warped)
    probabilities: np.ndarray[tuple[int], np.dtype[np.float64]] = marked[0].softmax(-1).numpy()
    return probabilities


@pytest.mark.parametrize(
    "sampling",
    [MARKED, replace(MARKED, top_k=20, temperature=1.3), replace(MARKED, top_p=0.8), replace(MARKED, min_p=0.05)],
    ids=["plain", "top-k", "top-p", "min-p"],
)
def test_draws_follow_the_probabilities_that_transformers_watermark_gives(sampling: Sampling) -> None:
    rows, rounds, fed = 100, 60, [21, 22, 23]
    logits = logits_of(1)[0]
    probabilities = expected(logits, sampling, PROMPT + fed)

    counts: Counter[int] = Counter()
    for seed in range(rounds):
        draws = draws_of([replace(sampling, seed=seed)] * rows, fed)
        counts.update(drawn.id for drawn in draw(logits.expand(rows, -1).clone(), draws))

    observed = np.array([counts[id_] for id_ in range(VOCABULARY)])
    wanted = probabilities * rows * rounds
    often = wanted >= 5
    chi_squared = float((((observed - wanted) ** 2)[often] / wanted[often]).sum())
    freedom = int(often.sum()) - 1
    assert observed[probabilities < 1e-300].sum() == 0
    assert chi_squared < freedom + 4 * (2 * freedom) ** 0.5 + 8


def test_a_context_that_comes_again_is_drawn_as_if_there_were_no_watermark() -> None:
    fed = [1, 2, 3, 4, 5, 1, 2, 3, 4]
    logits = logits_of(40)
    plain = [Sampling(seed=seed, top_k=MOST_CANDIDATES) for seed in range(40)]
    marked = [replace(sampling, watermark=True) for sampling in plain]

    repeated = draw(logits.clone(), draws_of(marked, fed))

    assert repeated == draw(logits.clone(), draws_of(plain, fed))
    assert draw(logits.clone(), draws_of(marked, fed[:8])) != draw(logits.clone(), draws_of(plain, fed[:8]))


def test_rows_without_a_watermark_draw_what_they_draw_without_marked_neighbours() -> None:
    plain = [Sampling(seed=1), Sampling(temperature=0), Sampling(seed=2, top_k=9), Sampling(seed=3, top_p=0.7)]
    logits = logits_of(8)

    mixed = draw(logits.clone(), draws_of([each for pair in zip(plain, [MARKED] * 4, strict=True) for each in pair]))

    for row, sampling in enumerate(plain):
        alone = draws_of([Sampling()] * 2 * row + [sampling]).select([2 * row])
        assert mixed[2 * row] == draw(logits[2 * row : 2 * row + 1].clone(), alone)[0]


@pytest.mark.parametrize("vocabulary", [40, MOST_CANDIDATES, VOCABULARY, 50257])
def test_a_marked_row_draws_alone_what_it_draws_among_others(vocabulary: int) -> None:
    kinds = [MARKED, replace(MARKED, top_p=0.9), replace(MARKED, top_k=7), replace(MARKED, typical_p=0.8)]
    samplings = [replace(kinds[seed % 4], seed=seed, logprobs=1) for seed in range(24)]
    logits, draws = logits_of(24, vocabulary=vocabulary), draws_of(samplings, vocabulary=vocabulary)

    together = draw(logits.clone(), draws)

    for row in range(24):
        assert draw(logits[row : row + 1].clone(), draws.select([row])) == together[row : row + 1]


def test_scores_that_tie_at_the_cap_are_all_candidates_whatever_their_number() -> None:
    flat = torch.zeros(64, 4 * MOST_CANDIDATES)
    samplings = [replace(MARKED, seed=seed) for seed in range(64)]

    drawn = draw(flat, draws_of(samplings, vocabulary=4 * MOST_CANDIDATES))

    assert max(each.id for each in drawn) > MOST_CANDIDATES  # as with transformers' top-k


def test_greedy_rows_carry_no_mark() -> None:
    logits = logits_of(10)
    samplings = [replace(MARKED, temperature=0, seed=seed) for seed in range(10)]
    draws = draws_of(samplings)

    assert draws.marks is None
    assert [drawn.id for drawn in draw(logits.clone(), draws)] == logits.argmax(-1).tolist()


def test_drafts_count_as_context_of_what_stands_behind_them() -> None:
    sampler = Sampler(2, CONTEXT, VOCABULARY, scheme_of(KEY))
    for slot in range(2):
        sampler.open(slot, MARKED, 0, PROMPT)
    sampler.feed(0, 0, [*PROMPT, 1])
    sampler.feed(1, 0, [*PROMPT, 1, 2, 3])
    logits = logits_of(1).expand(2, -1)

    guessed = sampler.draws([0], [8], {0: [2, 3]})
    fed = sampler.draws([1], [8])

    assert guessed.marks is not None
    assert fed.marks is not None
    assert guessed.marks.contexts == fed.marks.contexts
    assert draw(logits[:1].clone(), guessed) == draw(logits[1:].clone(), fed)
