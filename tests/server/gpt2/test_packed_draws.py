"""The kernels' draws beside torch's, from the same logits."""

from __future__ import annotations

import random
import shutil
from typing import Any

import pytest
import torch
from gpt2_reference import build_reference, pack_weights
from msgspec.structs import replace
from torch import Tensor

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Drawn
from sluicegate.server.gpt2.errors import NonFiniteRows
from sluicegate.server.gpt2.kernels import Kernels
from sluicegate.server.gpt2.kernels.build import find_or_build
from sluicegate.server.gpt2.kernels.processor import Tier, usable_tiers
from sluicegate.server.gpt2.packed import PackedNetwork
from sluicegate.server.gpt2.sampler import Draws, Sampler, draw

pytestmark = [
    pytest.mark.skipif(not usable_tiers(), reason="this processor has no AVX2"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler is installed"),
]

CONTEXT, WIDTH = 16, 32
PROMPT = [5, 6, 7, 5]


BEST_AND_LEAST = list(dict.fromkeys((*usable_tiers()[:1], *usable_tiers()[-1:])))


@pytest.fixture(scope="module", params=BEST_AND_LEAST, ids=lambda tier: tier.name)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    tier: Tier = request.param
    return Kernels(find_or_build(tier), tier, threads=2)


@pytest.fixture(scope="module", params=[50257, 3840, 300, 61], ids=lambda size: f"{size} entries")
def network(request: pytest.FixtureRequest, kernels: Kernels) -> PackedNetwork:
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": WIDTH, "n_positions": CONTEXT, "vocab_size": request.param}
    reference: Any = build_reference(1, spread=1.0, **sizes)
    return pack_weights(reference, kernels)


def hidden_rows(rows: int, scale: float) -> Tensor:
    """Rows whose logits spread by about `scale`."""
    hidden: Tensor = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(3)).mul(scale / WIDTH**0.5)
    return hidden


def draws_of(network: PackedNetwork, samplings: list[Sampling], drafts: dict[int, list[int]] | None = None) -> Draws:
    sampler = Sampler(len(samplings), CONTEXT, network.config.vocabulary_size)
    for slot, sampling in enumerate(samplings):
        sampler.open(slot, sampling, slot % 3, PROMPT)
        sampler.feed(slot, 0, [*PROMPT, 9, 9, 8])
    return sampler.draws([*range(len(samplings))], range(7, 7 + len(samplings)), drafts or {})


def both(network: PackedNetwork, hidden: Tensor, draws: Draws) -> tuple[list[Drawn], list[Drawn]]:
    with torch.inference_mode():
        return network.draw(hidden, draws), draw(network.logits(hidden), draws)


def values(drawn: Drawn) -> list[float]:
    """All log-probabilities of a draw."""
    return [*([] if drawn.logprob is None else [drawn.logprob]), *(top.logprob for top in drawn.top)]


KINDS = [
    Sampling(),
    Sampling(temperature=0.0),
    Sampling(temperature=0.7),
    Sampling(temperature=1e-9),
    Sampling(temperature=2.0),
    Sampling(top_k=1),
    Sampling(top_k=40),
    Sampling(top_k=200, temperature=1.3),
    Sampling(top_p=0.9),
    Sampling(top_p=0.999),
    Sampling(top_p=1e-6),
    Sampling(min_p=0.05),
    Sampling(min_p=1.0),
    Sampling(typical_p=0.7),
    Sampling(typical_p=0.5, top_k=50),
    Sampling(top_k=40, top_p=0.8, min_p=0.01, typical_p=0.9, temperature=0.9),
    Sampling(repetition_penalty=1.5, presence_penalty=0.5, frequency_penalty=0.7),
    Sampling(repetition_penalty=0.5, temperature=0.0, logit_bias={9: 3.0, 60: -4.0}),
    Sampling(repetition_penalty=1e-38, top_k=3),
    Sampling(logit_bias={0: 100.0, 60: 99.0}, top_p=0.95),
]


@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0, 30.0])
def test_kernels_draw_what_torch_draws(network: PackedNetwork, scale: float) -> None:
    samplings = [replace(kind, seed=seed, logprobs=[None, 0, 3][seed]) for kind in KINDS for seed in range(3)]
    draws = draws_of(network, samplings, drafts={4: [9, 60], 49: [60]})

    ours, theirs = both(network, hidden_rows(len(samplings), scale), draws)

    assert [drawn.id for drawn in ours] == [drawn.id for drawn in theirs]
    for mine, other, sampling in zip(ours, theirs, samplings, strict=True):
        assert (mine.logprob is None) == (other.logprob is None) == (sampling.logprobs is None)
        assert len(mine.top) == len(other.top) == (sampling.logprobs or 0)
        assert values(mine) == pytest.approx(values(other), rel=1e-4, abs=1e-4)


def test_one_row_draws_what_it_draws_among_others(network: PackedNetwork) -> None:
    samplings = [Sampling(seed=seed, top_k=[None, 40][seed % 2], logprobs=2) for seed in range(40)]
    hidden, draws = hidden_rows(40, 5.0), draws_of(network, samplings)

    together = network.draw(hidden, draws)

    alone = [network.draw(hidden[i : i + 1], Draws(draws.parameters[i : i + 1], [None]))[0] for i in range(40)]
    assert alone == together


def test_equal_logits_go_to_the_lower_id(network: PackedNetwork) -> None:
    flat = torch.zeros(2, WIDTH)
    samplings = [Sampling(temperature=0, logprobs=3), Sampling(top_k=1, logprobs=3)]

    greedy, filtered = network.draw(flat, draws_of(network, samplings))

    assert greedy.id == 0
    assert [top.id for top in greedy.top] == [0, 1, 2]
    assert 0 <= filtered.id < network.config.vocabulary_size  # all are as likely as the likeliest


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_named_and_nothing_is_drawn(network: PackedNetwork, bad: float) -> None:
    hidden = hidden_rows(5, 1.0)
    hidden[1], hidden[3, 7] = bad, bad

    with pytest.raises(NonFiniteRows) as refusal:
        network.draw(hidden, draws_of(network, [Sampling(), *[Sampling(top_k=3)] * 2, *[Sampling(temperature=0)] * 2]))

    assert refusal.value.rows == [1, 3]


def test_random_parameters_draw_alike(network: PackedNetwork) -> None:
    chance = random.Random(1)

    def sampling(seed: int) -> Sampling:
        return Sampling(
            temperature=chance.choice([0.0, 0.3, 1.0, 1.7]),
            top_k=chance.choice([None, 2, 30, 64, 65, 500]),
            top_p=chance.choice([1.0, 0.99, 0.7, 0.2]),
            min_p=chance.choice([0.0, 0.0, 0.02, 0.3]),
            typical_p=chance.choice([1.0, 1.0, 0.9, 0.4]),
            presence_penalty=chance.choice([0.0, 1.0]),
            seed=seed,
        )

    draws = draws_of(network, [sampling(seed) for seed in range(200)])

    ours, theirs = both(network, hidden_rows(200, 3.0), draws)

    assert [drawn.id for drawn in ours] == [drawn.id for drawn in theirs]
