from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import numpy as np
import pytest
import torch
from gpt2_reference import build_reference, random_ids, share_weights
from late_device import LateDevice
from recorded_operations import waiting_operations

from sluicegate.server.gpt2.cache import Cache
from sluicegate.server.gpt2.graphs import DecodeGraphs, buckets, fitting
from sluicegate.server.gpt2.network import Network
from sluicegate.server.gpt2.static_draws import RESULT, ROW, Reach

VOCABULARY, CONTEXT, SLOTS = 301, 256, 5


@pytest.fixture(scope="module")
def network() -> Network:
    model = build_reference(1, n_layer=2, n_head=4, n_embd=64, n_positions=CONTEXT, vocab_size=VOCABULARY)
    return share_weights(model)


def some_rows(count: int, position: int = 0) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """A greedy row in each of the first slots."""
    rows = np.zeros(count, ROW)
    rows["fed_id"] = random_ids(count, count, VOCABULARY)
    rows["fed_position"] = position
    rows["slot"] = range(count)
    rows["parameters"]["is_greedy"] = rows["parameters"]["temperature"] = 1
    return rows


def build(network: Network, device: LateDevice | None = None) -> tuple[DecodeGraphs, Cache]:
    cache = network.new_cache(SLOTS + 1)
    graphs = DecodeGraphs(network, cache, device or LateDevice())
    graphs.capture()
    return graphs, cache


def drawn(graphs: DecodeGraphs, count: int) -> list[int]:
    return [int(row["id"]) for row in graphs.results.data.numpy().view(RESULT)[:count, 0]]


@pytest.mark.parametrize(
    ("smallest", "largest", "sizes"),
    [(1, 1, [1]), (1, 5, [1, 2, 4, 5]), (1, 8, [1, 2, 4, 8]), (128, 1_024, [128, 256, 512, 1_024]), (64, 64, [64])],
)
def test_sizes_are_powers_of_two_and_the_largest(smallest: int, largest: int, sizes: list[int]) -> None:
    assert buckets(smallest, largest) == sizes


def test_smallest_size_that_is_enough_is_taken() -> None:
    assert [fitting([1, 2, 4, 5], needed) for needed in (1, 2, 3, 4, 5)] == [1, 2, 4, 4, 5]


def test_a_graph_is_recorded_for_each_size_and_width_and_each_draw_but_the_rare_one(network: Network) -> None:
    device = LateDevice()

    graphs, _ = build(network, device)

    sizes, widths, reaches = 4, 2, 3  # 1, 2, 4, 5; 128, 256
    assert device.captures == sizes * (widths + reaches)
    for count, length, reach in ((1, 128, Reach.FEW), (2, 129, Reach.UNFILTERED), (5, 256, Reach.LIKELIEST)):
        size = graphs.feed(some_rows(count))
        graphs.forward(size, length)
        graphs.draw(size, reach)
    assert device.replays == 6
    graphs.draw(5, Reach.ALL)
    assert device.replays == 6


def test_rows_that_fill_up_change_no_slot_and_no_result_but_their_own(network: Network) -> None:
    graphs, cache = build(network)
    before = [torch.stack([keys, values]).clone() for keys, values in zip(cache.keys, cache.values, strict=True)]
    graphs.results.data.zero_()

    size = graphs.feed(some_rows(3, position=7))
    graphs.forward(size, 8)
    graphs.draw(size, Reach.LIKELIEST)

    assert size == 4
    for layer, old in enumerate(before):
        new = torch.stack([cache.keys[layer], cache.values[layer]])
        changed = (new != old).any(-1).any(2).any(0).nonzero().tolist()  # slots and positions
        assert [pair for pair in changed if pair[0] != SLOTS] == [[0, 7], [1, 7], [2, 7]]
        assert all(position == 0 for slot, position in changed if slot == SLOTS)
    assert graphs.results.data[:size].any()
    assert not graphs.results.data[size:].any()


def test_recording_leaves_all_slots_that_sequences_have_as_they_were(network: Network) -> None:
    _, cache = build(network)

    for layer in range(network.config.layers):
        assert not cache.keys[layer][:SLOTS].any()
        assert not cache.values[layer][:SLOTS].any()


def test_awaited_id_is_what_was_drawn_last_for_the_slot(network: Network) -> None:
    told, awaiting = build(network)[0], build(network)[0]
    first = some_rows(SLOTS)
    for graphs in (told, awaiting):
        graphs.feed(first)
        graphs.forward(SLOTS, 1)
        graphs.draw(SLOTS, Reach.LIKELIEST)
    rows = some_rows(SLOTS, position=1)
    rows["fed_id"] = drawn(told, SLOTS)

    told.feed(rows)
    rows = rows[::-1].copy()  # in another order
    rows["fed_id"], rows["is_awaited"] = 0, 1
    awaiting.feed(rows)
    for graphs in (told, awaiting):
        graphs.forward(SLOTS, 2)
        graphs.draw(SLOTS, Reach.LIKELIEST)

    assert drawn(awaiting, SLOTS) == drawn(told, SLOTS)[::-1]


def test_output_that_is_not_finite_is_told_and_feeds_an_id_of_the_vocabulary(network: Network) -> None:
    graphs, _ = build(network)
    graphs.feed(some_rows(2))
    graphs.forward(2, 1)
    graphs.hidden[1] = torch.nan

    for reach in Reach:
        graphs.draw(2, reach)

        results = graphs.results.data.numpy().view(RESULT)[:2, 0]
        assert results["is_finite"].tolist() == [1, 0]
        assert 0 <= results["id"][1] < VOCABULARY


@pytest.mark.parametrize("size", [1, SLOTS])
def test_nothing_that_is_recorded_waits_for_the_device(network: Network, size: int) -> None:
    works: list[Any] = []

    class Collecting(LateDevice):
        def capture(self, work: Any) -> Any:
            works.append(work)
            return super().capture(work)

    build(network, Collecting())

    with torch.inference_mode():
        assert len(works) == 20
        assert set().union(*map(waiting_operations, works)) == set()


@pytest.mark.parametrize("captures", [0, 1, 19])
def test_without_graphs_steps_are_asked_for_kernel_by_kernel_with_a_warning(
    network: Network, captures: int, logs: list[MutableMapping[str, Any]]
) -> None:
    device = LateDevice(capture_fails=captures)
    recorded, played = build(network)[0], build(network, device)[0]

    for graphs in (recorded, played):
        graphs.feed(some_rows(3))
        graphs.forward(4, 1)
        graphs.draw(4, Reach.FEW)

    assert drawn(played, 3) == drawn(recorded, 3)
    assert device.replays == 0
    assert [entry["event"] for entry in logs] == ["graphs_captured", "graphs_not_captured"]
