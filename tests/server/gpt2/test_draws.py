from __future__ import annotations

import numpy as np
import pytest
import torch

from sluicegate.server.gpt2.draws import philox4x32, pick, uniforms

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


def uniform(seed: int, candidate: int, position: int) -> float:
    arrays = np.array([seed], np.uint64), np.array([candidate], np.uint32), np.array([position], np.uint32)
    return float(uniforms(*arrays)[0])


def test_uniform_is_the_same_alone_and_among_others() -> None:
    seeds = np.array([3, 2**64 - 1, 3], dtype=np.uint64)
    candidates, positions = np.array([0, 1, 2], dtype=np.uint32), np.array([5, 6, 7], dtype=np.uint32)

    together = uniforms(seeds, candidates, positions)

    assert together.tolist() == [uniform(3, 0, 5), uniform(2**64 - 1, 1, 6), uniform(3, 2, 7)]


def test_seed_candidate_and_position_each_give_another_uniform() -> None:
    keys = [(1, 0, 0), (2, 0, 0), (1 + 2**32, 0, 0), (1, 1, 0), (1, 0, 1), (0, 0, 0)]

    assert len({uniform(*key) for key in keys}) == len(keys)


def test_uniforms_are_even_over_positions() -> None:
    n = 20_000
    values = uniforms(np.full(n, 9, np.uint64), np.zeros(n, np.uint32), np.arange(n, dtype=np.uint32))
    counts, _ = np.histogram(values, bins=50, range=(0, 1))
    chi_squared = float(((counts - n / 50) ** 2 / (n / 50)).sum())

    assert values.min() >= 0
    assert values.max() < 1
    assert chi_squared < 85.4  # 49 degrees of freedom, p = 0.001


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 1000])
def test_pick_never_takes_a_weight_of_zero(dtype: torch.dtype, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    weights = torch.rand(200, size, generator=generator, dtype=dtype)
    weights[torch.rand(200, size, generator=generator) < 0.9] = 0
    weights[:, size // 2] = 1e-30  # at least one in each row
    uniform = torch.linspace(0, 1 - 2**-53, 200, dtype=torch.float64)

    picked = pick(weights, uniform)

    assert weights.gather(1, picked[:, None]).all()


def test_pick_follows_the_running_sum() -> None:
    weights = torch.tensor([[1.0, 0, 2, 1]]).expand(6, 4)
    uniform = torch.tensor([0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2**-53], dtype=torch.float64)

    assert pick(weights, uniform).tolist() == [0, 0, 2, 2, 3, 3]


def test_pick_finds_the_same_column_as_a_plain_search_over_a_whole_vocabulary() -> None:
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(64, 50257, generator=generator).mul(3).exp()
    uniform = torch.rand(64, generator=generator, dtype=torch.float64)
    sums = weights.double().cumsum(-1)

    expected = torch.searchsorted(sums, (uniform * sums[:, -1])[:, None], right=True)[:, 0]

    assert torch.equal(pick(weights, uniform), expected)
