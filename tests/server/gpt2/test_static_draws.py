from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from recorded_operations import waiting_operations
from torch import Tensor

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.gpt2.draws import WaitingTimes
from sluicegate.server.gpt2.filters import FEW
from sluicegate.server.gpt2.sampler import Draws, Sampler, draw
from sluicegate.server.gpt2.static_draws import ROW, Reach, draw_static
from sluicegate.server.gpt2.table import Table, as_bytes

VOCABULARY = 3_000
CPU = torch.device("cpu")
GREEDY = [Sampling(temperature=0)]
UNFILTERED = [*GREEDY, Sampling(), Sampling(temperature=0.3), Sampling(temperature=1.9)]
FILTERED = [
    *UNFILTERED,
    Sampling(top_k=1),
    Sampling(top_k=40),
    Sampling(top_k=2_500, temperature=1.4),
    Sampling(top_p=0.5),
    Sampling(top_p=0.97),
    Sampling(top_p=0.97, top_k=50, temperature=0.8),
    Sampling(min_p=0.02),
    Sampling(min_p=0.3, top_p=0.9),
]


class Rows:
    """Random rows, each with one of some samplings: their logits, and what they draw."""

    def __init__(self, samplings: list[Sampling], count: int, seed: int, spread: float = 3.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(count, VOCABULARY, generator=generator) * spread
        self.logits[1::3] = self.logits[1::3].bfloat16().float()  # with ties
        rng = random.Random(seed)
        sampler = Sampler(count, 1_024, VOCABULARY)
        for slot in range(count):
            sampling = samplings[slot % len(samplings)]
            seeded = {name: getattr(sampling, name) for name in sampling.__struct_fields__}
            sampler.open(slot, Sampling(**{**seeded, "seed": rng.getrandbits(64)}), rng.randrange(8), [1])
        self.draws: Draws = sampler.draws(list(range(count)), [rng.randrange(1_024) for _ in range(count)])
        rows = np.zeros(count, ROW)
        rows["parameters"] = self.draws.parameters
        self.table = Table(ROW, torch.from_numpy(as_bytes(rows)))

    @property
    def times(self) -> Tensor:
        """Of each row's race."""
        columns = self.table["seed"], self.table["candidate"].long(), self.table["position"].long()
        return WaitingTimes(VOCABULARY, CPU)(*columns)

    def expected(self) -> list[int]:
        """As the sampler draws them."""
        return [drawn.id for drawn in draw(self.logits.clone(), self.draws)]


@pytest.mark.parametrize(
    ("reach", "samplings"),
    [
        (Reach.LIKELIEST, GREEDY),
        (Reach.UNFILTERED, UNFILTERED),
        (Reach.FEW, FILTERED),
        (Reach.ALL, FILTERED),
    ],
    ids=lambda value: value.name if isinstance(value, Reach) else "",
)
@pytest.mark.parametrize("seed", range(4))
def test_settled_rows_get_the_tokens_that_the_sampler_draws(reach: Reach, samplings: list[Sampling], seed: int) -> None:
    rows = Rows(samplings, 60, seed)

    ids, settled = draw_static(rows.logits, rows.table, rows.times, reach)

    right = [ours == theirs for ours, theirs in zip(ids.tolist(), rows.expected(), strict=True)]
    assert all(is_right for is_right, is_settled in zip(right, settled.tolist(), strict=True) if is_settled)
    assert settled.float().mean() > 0.7
    assert settled.all() or reach is Reach.FEW


def test_rows_whose_filters_reach_beyond_the_few_are_not_settled_and_no_others() -> None:
    samplings = [Sampling(top_k=FEW // 2), Sampling(top_k=FEW + 1), Sampling(top_p=0.999, temperature=5), Sampling()]
    rows = Rows(samplings, 8, seed=5)
    rows.logits = torch.randn(8, VOCABULARY, generator=torch.Generator().manual_seed(6))

    _, settled = draw_static(rows.logits, rows.table, rows.times, Reach.FEW)

    assert settled.tolist() == [True, False, False, True] * 2


def test_a_greedy_row_is_settled_however_far_its_filters_reach() -> None:
    rows = Rows([Sampling(temperature=0, top_k=FEW + 1), Sampling(top_k=FEW + 1)], 2, seed=9)

    ids, settled = draw_static(rows.logits, rows.table, rows.times, Reach.FEW)

    assert settled.tolist() == [True, False]
    assert ids[0] == rows.logits[0].argmax()


@pytest.mark.parametrize("reach", Reach)
def test_every_id_is_one_of_the_vocabulary_whatever_the_row_needs(reach: Reach) -> None:
    rows = Rows([*FILTERED, Sampling(typical_p=0.5), Sampling(repetition_penalty=2.0)], 60, seed=7)
    rows.table["top_k"].fill_(0)  # as of a slot that nobody has opened

    ids, _ = draw_static(rows.logits, rows.table, rows.times, reach)

    assert int(ids.min()) >= 0
    assert int(ids.max()) < VOCABULARY


@pytest.mark.parametrize("reach", Reach)
def test_nothing_waits_for_the_device(reach: Reach) -> None:
    rows = Rows(FILTERED, 12, seed=8)
    times = rows.times
    make_times = WaitingTimes(VOCABULARY, CPU)
    columns = rows.table["seed"], rows.table["candidate"].long(), rows.table["position"].long()

    assert waiting_operations(lambda: draw_static(rows.logits, rows.table, times, reach)) == set()
    assert waiting_operations(lambda: make_times(*columns)) == set()
    assert waiting_operations(lambda: draw(rows.logits.clone(), rows.draws)) != set()
