from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sluicegate.server.gpt2.cache import Cache, slot_bytes, slots_that_fit
from sluicegate.server.gpt2.config import Gpt2Config

CPU = torch.device("cpu")
SMALL = Gpt2Config(layers=2, heads=2, width=8, inner_width=32, context_length=6, vocabulary_size=10)
MB = 10**6


def filled(slots: int) -> Cache:
    cache = Cache(SMALL, slots, torch.float32, CPU)
    generator = torch.Generator().manual_seed(1)
    for keys, values in zip(cache.keys, cache.values, strict=True):
        keys.normal_(generator=generator)
        values.normal_(generator=generator)
    return cache


def test_copy_takes_the_prefix_of_every_layer_and_leaves_the_rest() -> None:
    cache = filled(3)
    before = [layer.clone() for layer in (*cache.keys, *cache.values)]

    cache.copy(source=0, target=2, length=4)

    for layer, old in zip((*cache.keys, *cache.values), before, strict=True):
        assert torch.equal(layer[2, :, :4], old[0, :, :4])
        assert torch.equal(layer[2, :, 4:], old[2, :, 4:])
        assert torch.equal(layer[:2], old[:2])


def test_clear_wipes_one_slot() -> None:
    cache = filled(2)

    cache.clear(0)

    assert all(not layer[0].any() and layer[1].all() for layer in (*cache.keys, *cache.values))


def test_write_puts_each_row_at_its_slot_and_position() -> None:
    cache = Cache(SMALL, 2, torch.float32, CPU)
    keys, values = torch.randn(3, 2, 4), torch.randn(3, 2, 4)

    cache.write(1, torch.tensor([1, 0, 0]), torch.tensor([5, 0, 1]), keys, values)

    assert torch.equal(cache.keys[1][1, :, 5], keys[0])
    assert torch.equal(cache.values[1][0, :, 1], values[2])
    assert not cache.keys[0].any()


@pytest.mark.parametrize(
    ("layers", "width", "megabytes"), [(12, 768, 38), (24, 1024, 101), (36, 1280, 189), (48, 1600, 315)]
)
def test_slot_of_a_real_model_in_bfloat16_has_its_known_size(layers: int, width: int, megabytes: int) -> None:
    config = Gpt2Config(layers, 1, width, 4 * width, 1024, 50257)

    assert round(slot_bytes(config, torch.bfloat16) / MB) == megabytes


def test_slots_that_fit_leave_room_for_the_activations_of_a_step() -> None:
    one = slot_bytes(SMALL, torch.float32)

    assert slots_that_fit(SMALL, torch.float32, 100 * one) == 90
    assert slots_that_fit(SMALL, torch.float32, one) == 0
    assert Cache(SMALL, 5, torch.float32, CPU).nbytes <= 5 * one


def test_cache_takes_the_bytes_that_are_reckoned_with() -> None:
    config = replace(SMALL, context_length=128)

    assert Cache(config, 5, torch.float32, CPU).nbytes == 5 * slot_bytes(config, torch.float32)
