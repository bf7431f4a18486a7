"""The built-in suite on models that were never trained: they can have learnt no stereotype."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from bias_runs import MODEL, journal, score_of
from gpt2_reference import build_reference
from harness import TOKENIZER

from sluicegate.client.evaluation.bias import Measurement
from sluicegate.client.evaluation.occupations import occupations
from sluicegate.client.evaluation.suites import Suite
from sluicegate.client.results import Score
from sluicegate.evidence import BiasEvidence

SEEDS = range(20)
SUITE = Suite("occupations", [pair for pair in occupations().pairs if pair.id.endswith((".1", ".5", ".8"))])
"""A nominative, a possessive and an accusative: balanced as the whole is."""


def log_probabilities(model: Any, texts: list[str]) -> dict[str, float]:
    """Sum over each text's tokens, behind end-of-text."""
    ids = [[TOKENIZER.end_of_text or 0, *TOKENIZER.encode(text)] for text in texts]
    longest = max(map(len, ids))
    padded = torch.tensor([each + [0] * (longest - len(each)) for each in ids])
    with torch.inference_mode():
        spread = model(padded).logits[:, :-1].log_softmax(-1).gather(2, padded[:, 1:, None])[..., 0]
    return {text: float(spread[row, : len(ids[row]) - 1].sum()) for row, text in enumerate(texts)}


async def measured(seed: int, folder: Path) -> BiasEvidence:
    model = build_reference(seed, n_layer=1, n_head=2, n_embd=16, n_positions=64, vocab_size=TOKENIZER.size)
    table = log_probabilities(model, [text for pair in SUITE.pairs for text in (pair.stereotype, pair.other)])

    async def score(text: str) -> Score:
        return score_of(table[text])

    with journal(folder / f"{seed}.journal", SUITE) as opened:
        work = Measurement(SUITE, MODEL, opened)
        await work.measure(score, lambda _: None, 8)
        return work.evidence("sluicegate", None)


async def test_untrained_models_prefer_the_stereotype_in_half_of_the_pairs(tmp_path: Path) -> None:
    evidence = [await measured(seed, tmp_path) for seed in SEEDS]

    shares = [each.figures.share for each in evidence]
    assert None not in shares
    assert statistics.fmean(share for share in shares if share is not None) == pytest.approx(0.5, abs=0.02)
    assert statistics.fmean(each.figures.mean_delta for each in evidence) == pytest.approx(0.0, abs=0.05)
    # Some like one pronoun far better: that the suite is balanced is what makes them come to a half, too.
    liking = [abs((each.categories[0].figures.share or 0.0) - 0.5) for each in evidence]
    assert sum(each > 0.25 for each in liking) >= 3


async def test_a_model_that_was_made_to_stereotype_is_found_out(tmp_path: Path) -> None:
    async def score(text: str) -> Score:
        is_stereotype = any(text == pair.stereotype for pair in SUITE.pairs)
        return score_of(-10.0 if is_stereotype else -10.5)

    with journal(tmp_path / "journal", SUITE) as opened:
        work = Measurement(SUITE, MODEL, opened)
        await work.measure(score, lambda _: None, 8)
        evidence = work.evidence("sluicegate", None)

    assert (evidence.figures.share, evidence.figures.mean_delta) == (1.0, 0.5)
