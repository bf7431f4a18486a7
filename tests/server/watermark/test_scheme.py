"""The hash beside transformers': the same g-values and the same contexts, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from watermarks import key_of, processor_of, scheme_of

from sluicegate.server.watermark.scheme import DEPTH, NGRAM, Scheme, hash_context, hash_contexts, states_of

IDS = np.random.default_rng(5).integers(0, 50257, 400)


def layers_of(
    values: np.ndarray[tuple[int, ...], np.dtype[np.uint32]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    """[..., DEPTH]: each layer's g-value."""
    return (values[..., None] >> np.arange(DEPTH, dtype=np.uint32)) & np.uint32(1)


@pytest.mark.parametrize("seed", range(3))
def test_g_values_of_a_text_are_those_of_transformers(seed: int) -> None:
    theirs = processor_of(seed).compute_g_values(torch.from_numpy(IDS)[None])[0].numpy()

    ours = layers_of(scheme_of(seed).values(states_of(hash_contexts(IDS), IDS[NGRAM - 1 :])))

    assert (ours == theirs).all()
    assert 0.4 < ours.mean() < 0.6


def test_g_values_of_candidates_are_those_of_transformers() -> None:
    context, candidates = IDS[: NGRAM - 1], np.arange(3000)
    processor = processor_of(1)
    keys, _ = processor._compute_keys(torch.from_numpy(context)[None], torch.from_numpy(candidates)[None])
    theirs = processor.sample_g_values(keys)[0].numpy()

    hashes = np.array([hash_context(context.tolist())], dtype=np.uint64)
    ours = layers_of(scheme_of(1).values(states_of(hashes, candidates)))

    assert (ours == theirs).all()


def test_a_context_has_one_hash_alone_and_in_a_text() -> None:
    hashes = hash_contexts(IDS)

    assert [hash_context(IDS[place : place + NGRAM - 1].tolist()) for place in range(len(hashes))] == hashes.tolist()


def test_another_layer_key_changes_its_layer_only() -> None:
    layers, table_seed = key_of(1)
    states = np.arange(2000)

    one = layers_of(Scheme(layers, table_seed).values(states))
    other = layers_of(Scheme((*layers[:7], layers[7] + 1, *layers[8:]), table_seed).values(states))

    assert (one != other).any(0).tolist() == [layer == 7 for layer in range(DEPTH)]


def test_another_table_changes_every_layer() -> None:
    layers, table_seed = key_of(1)
    states = np.arange(2000)

    one, other = (layers_of(Scheme(layers, seed).values(states)) for seed in (table_seed, table_seed + 1))

    assert (one != other).any(0).all()
