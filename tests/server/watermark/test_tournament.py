"""The tournament beside transformers', and that it distorts nothing over many keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from watermarks import processor_of, scheme_of

from sluicegate.server.watermark.scheme import DEPTH, hash_context, states_of
from sluicegate.server.watermark.tournament import play

CONTEXT = [3, 1, 4, 1]


def probabilities_of(rows: int, candidates: int, seed: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    weights = np.exp(np.random.default_rng(seed).normal(size=(rows, candidates)) * 2)
    probabilities: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = weights / weights.sum(-1, keepdims=True)
    return probabilities


def values_of(seed: int, candidates: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    contexts = np.array([hash_context(CONTEXT)], dtype=np.uint64)
    return scheme_of(seed).values(states_of(contexts[:, None], np.arange(candidates)[None]))


def test_probabilities_become_those_of_transformers() -> None:
    before = probabilities_of(1, 200)
    processor = processor_of(2)
    processor(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 200))  # a first call, after which ids are appended
    for id_ in CONTEXT:
        after = processor(torch.tensor([[id_]]), torch.from_numpy(before).log()).softmax(-1)[0].numpy()

    ours = play(before, values_of(2, 200))[0]

    assert ours == pytest.approx(after, rel=1e-9, abs=1e-300)
    assert abs(ours - before[0]).max() > 0.01


def test_a_row_plays_alone_as_it_plays_among_others() -> None:
    before = probabilities_of(32, 288)
    values = np.random.default_rng(3).integers(0, 2**DEPTH, before.shape, dtype=np.uint32)

    together = play(before, values)

    for row in range(32):
        assert (play(before[row : row + 1], values[row : row + 1])[0] == together[row]).all()
    assert together.sum(-1) == pytest.approx(np.ones(32))


def test_over_many_g_values_each_token_keeps_its_probability() -> None:
    rounds = 4000
    before = probabilities_of(1, 20)
    values = np.random.default_rng(4).integers(0, 2**DEPTH, (rounds, 20), dtype=np.uint32)

    after = play(np.repeat(before, rounds, 0), values)

    deviations = after.std(0) / rounds**0.5
    assert (abs(after.mean(0) - before[0]) < 5 * deviations + 1e-12).all()


def test_a_token_that_was_ruled_out_stays_out_and_a_sure_one_stays_sure() -> None:
    before = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    values = np.array([[0, 2**DEPTH - 1, 2**DEPTH - 1]] * 2, dtype=np.uint32)

    after = play(before, values)

    assert after[:, 2].tolist() == [0, 0]
    assert after[1].tolist() == [0, 1, 0]
    assert after[0, 1] > 0.999
