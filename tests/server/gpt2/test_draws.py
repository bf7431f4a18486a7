from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sluicegate.server.gpt2.draws import BLOCK, WaitingTimes, philox4x32, pick, pick_among, waiting_times

# Random123, tests/kat_vectors, "philox4x32 10": counter, key, result.
KNOWN_ANSWERS = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


def test_philox_gives_the_known_answers() -> None:
    counter, key, result = (np.array(column, dtype=np.uint32).T for column in zip(*KNOWN_ANSWERS, strict=True))

    assert np.array_equal(philox4x32(counter, key), result)


VOCABULARY = 1_000


def times(keys: list[tuple[int, int, int]], vocabulary: int = VOCABULARY) -> NDArray[np.float64]:
    """Waiting times of rows with these seeds, candidates and positions."""
    seeds, candidates, positions = zip(*keys, strict=True)
    arrays = np.array(seeds, np.uint64), np.array(candidates, np.uint32), np.array(positions, np.uint32)
    return waiting_times(*arrays, vocabulary)


def times_of_positions(count: int, seed: int, vocabulary: int = VOCABULARY) -> Tensor:
    return torch.from_numpy(times([(seed, 0, position) for position in range(count)], vocabulary))


def test_times_are_the_same_alone_and_among_others() -> None:
    keys = [(3, 0, 5), (2**64 - 1, 1, 6), (3, 2, 7)]

    together = times(keys)

    assert np.array_equal(together, np.concatenate([times([key]) for key in keys]))


def test_times_by_torch_are_those_by_numpy_to_the_last_bit_of_the_logarithm() -> None:
    keys = [(0, 0, 0), (2**64 - 1, 2**32 - 1, 2**32 - 1), (2**63, 7, 1_023), (12345678901234567890, 1, 64)]
    seeds, candidates, positions = (
        torch.tensor(np.array(part, np.uint64).astype(np.int64)) for part in zip(*keys, strict=True)
    )

    ours = WaitingTimes(50_257, torch.device("cpu"))(seeds, candidates, positions)

    np.testing.assert_allclose(ours.numpy(), times(keys, 50_257), rtol=3e-16, atol=0)


def test_there_is_a_time_for_each_block_and_for_each_place_in_one() -> None:
    assert [times([(1, 0, 0)], size).shape[1] for size in (1, BLOCK, BLOCK + 1, 50_257)] == [257, 257, 258, 453]


def test_seed_candidate_and_position_each_give_other_times() -> None:
    keys = [(1, 0, 0), (2, 0, 0), (1 + 2**32, 0, 0), (1, 1, 0), (1, 0, 1), (0, 0, 0)]

    values = times(keys)

    assert len(np.unique(values)) == values.size


def test_times_are_exponential_and_never_zero() -> None:
    values = times([(9, 0, position) for position in range(200)]).ravel()
    counts, _ = np.histogram(np.exp(-values), bins=50, range=(0, 1))
    expected = values.size / 50

    assert values.min() > 0
    assert float(((counts - expected) ** 2 / expected).sum()) < 85.4  # 49 degrees of freedom, p = 0.001


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 1000])
def test_pick_never_takes_a_weight_of_zero(dtype: torch.dtype, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    weights = torch.rand(200, size, generator=generator, dtype=dtype)
    weights[torch.rand(200, size, generator=generator) < 0.9] = 0
    weights[:, size // 2] = 1e-30  # at least one in each row

    picked = pick(weights, times_of_positions(200, size, size))

    assert weights.gather(1, picked[:, None]).all()


def test_pick_follows_the_weights_over_several_blocks() -> None:
    rows, weights = 20_000, torch.zeros(VOCABULARY)
    weights[[0, 1, 255, 256, 700, 999]] = torch.tensor([1.0, 2, 3, 4, 8, 2])

    picked = pick(weights.expand(rows, -1), times_of_positions(rows, 5))

    counts = picked.bincount(minlength=VOCABULARY).double()
    expected = weights.double() * rows / 20
    asked = expected > 0
    assert counts[~asked].sum() == 0
    assert float(((counts - expected)[asked] ** 2 / expected[asked]).sum()) < 20.5  # 5 degrees of freedom, p = 0.001


def test_pick_among_some_ids_in_any_order_takes_what_pick_takes_of_all() -> None:
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(64, VOCABULARY, generator=generator).mul(3).exp().double()
    weights[:, 300:] = 0
    ids = torch.argsort(torch.rand(64, 400, generator=generator), dim=-1)
    drawn_from = times_of_positions(64, 8)

    picked = pick_among(ids, weights.gather(1, ids), drawn_from)

    assert torch.equal(picked, pick(weights, drawn_from))
    assert len(set(picked.tolist())) > 20


@pytest.mark.parametrize("noise", [0.01, 0.3, 1.0])
def test_distributions_that_differ_little_mostly_draw_the_same(noise: float) -> None:
    rows = 4_000
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(VOCABULARY, generator=generator).double() * 2
    left = logits.softmax(-1)
    right = (logits + noise * torch.randn(VOCABULARY, generator=generator)).softmax(-1)
    distance = float((left - right).abs().sum() / 2)
    drawn_from = times_of_positions(rows, 4)

    alike = pick(left.expand(rows, -1), drawn_from) == pick(right.expand(rows, -1), drawn_from)

    bound = (1 - distance) / (1 + distance)
    assert float(alike.double().mean()) > bound - 4 * (bound * (1 - bound) / rows) ** 0.5
