"""CUDA graphs and overlapped steps on a real device: what tests/server/gpt2 holds on a CPU, repeated on CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gpt2_crowd import OTHERS, agreement, alone, asked, in_a_crowd
from gpt2_reference import (
    build_reference,
    build_runner,
    demo_runner,
    generate,
    greedy_reference,
    random_ids,
    share_weights,
)
from graph_runners import BY_DEVICE, BY_HOST, GREEDY, assert_same, build_graph_runner, crowd, told
from msgspec import structs
from structlog.testing import capture_logs

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Chunk
from sluicegate.server.gpt2 import NonFiniteError
from sluicegate.server.gpt2.cuda import CudaDevice
from sluicegate.server.gpt2.device import Captured, CaptureFailed, Work
from sluicegate.server.gpt2.draws import WaitingTimes, waiting_times
from sluicegate.server.gpt2.graph_runner import GraphRunner
from sluicegate.server.gpt2.network import Network

VOCABULARY, CONTEXT, SLOTS = 3_001, 256, 5
SIZES: dict[str, int | bool] = {"n_layer": 3, "n_head": 4, "n_embd": 256, "n_positions": CONTEXT}
CUDA = torch.device("cuda")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


class Unrecorded(CudaDevice):
    """The same device, whose graphs cannot be recorded."""

    def capture(self, work: Work) -> Captured:
        raise CaptureFailed("not this time")


@pytest.fixture(scope="module", autouse=True)
def exact_products() -> Iterator[None]:
    """float32 products in full: TF32 keeps 10 bits of a factor."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(precision)


@pytest.fixture(scope="module")
def reference() -> Any:
    return build_reference(1, spread=0.1, **SIZES, vocab_size=VOCABULARY).cuda()


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def network(request: pytest.FixtureRequest, reference: Any) -> Network:
    network = share_weights(reference)
    if request.param == "float32":
        return network
    weights = {name.removeprefix("transformer."): value.bfloat16() for name, value in reference.state_dict().items()}
    return Network(network.config, weights)


def on_cuda(network: Network, slots: int = SLOTS, *, is_recorded: bool = True) -> GraphRunner:
    return build_graph_runner(network, slots, CudaDevice(CUDA) if is_recorded else Unrecorded(CUDA))


def test_a_graph_is_recorded_for_each_size_when_a_model_is_loaded() -> None:
    with capture_logs() as logs:
        runner = demo_runner("bfloat16", slots=SLOTS, device="cuda")

    assert isinstance(runner, GraphRunner)
    [captured] = [entry for entry in logs if entry["event"] == "graphs_captured"]
    assert captured["graphs"] >= 4 * (1 + 3)


def test_greedy_continuation_is_that_of_transformers(reference: Any) -> None:
    prompts = {slot: random_ids(20 + slot, length, VOCABULARY) for slot, length in ((0, 1), (2, 100), (4, 9))}

    output = generate(on_cuda(share_weights(reference)), prompts, dict.fromkeys(prompts, GREEDY), steps=120)

    assert output == {slot: greedy_reference(reference, prompt, 120) for slot, prompt in prompts.items()}


def test_tokens_in_float32_are_those_of_a_cpu(reference: Any) -> None:
    prompts = {slot: random_ids(slot, 1 + 40 * slot, VOCABULARY) for slot in range(SLOTS)}
    samplings = dict(enumerate(list(BY_DEVICE.values())[:SLOTS]))
    on_cpu = share_weights(build_reference(1, spread=0.1, **SIZES, vocab_size=VOCABULARY))

    output = generate(on_cuda(share_weights(reference)), prompts, samplings, steps=60)

    assert output == generate(build_runner(on_cpu, SLOTS), prompts, samplings, steps=60)


@pytest.mark.parametrize("name", [*BY_DEVICE, *BY_HOST])
def test_recorded_steps_give_the_tokens_of_those_that_are_not(network: Network, name: str) -> None:
    prompts = {slot: random_ids(slot, 1 + 40 * slot, VOCABULARY) for slot in range(SLOTS)}
    samplings = dict.fromkeys(prompts, (BY_DEVICE | BY_HOST)[name])

    outputs = [
        generate(on_cuda(network, is_recorded=is_recorded), prompts, samplings, steps=60)
        for is_recorded in (True, False)
    ]

    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("seed", range(4))
def test_overlapped_steps_give_a_crowd_the_tokens_of_plain_ones(reference: Any, seed: int) -> None:
    messages, runner = crowd(seed, VOCABULARY, requests=60), on_cuda(share_weights(reference))

    assert_same(told(messages, runner, is_overlapped=True), told(messages, runner))


def test_rows_that_fill_up_reach_no_sequence(network: Network) -> None:
    few, prompt = on_cuda(network, slots=8), random_ids(7, 30, VOCABULARY)
    alone_output = generate(few, {3: prompt}, {3: Sampling(seed=1)}, steps=40)  # one row
    prompts = {slot: random_ids(slot, 20, VOCABULARY) for slot in range(5)} | {3: prompt}  # eight rows, three of nobody

    together = generate(few, prompts, dict.fromkeys(prompts, Sampling(seed=1)), steps=40)

    again = generate(few, {3: prompt}, {3: Sampling(seed=1)}, steps=40)
    assert again == alone_output
    if network.dtype is torch.float32:
        assert together[3] == alone_output[3]


@pytest.mark.parametrize(("dtype", "lowest"), [("float32", 0.999), ("bfloat16", 0.98)])
def test_overlapped_or_not_tokens_hardly_depend_on_the_batch(dtype: str, lowest: float) -> None:
    runner = demo_runner(dtype, slots=OTHERS + 1, device="cuda")
    pairs = []
    for seed, sampling in enumerate(BY_DEVICE.values()):
        lasting = structs.replace(sampling, max_output_tokens=100, ignore_eos=True)
        request = asked(random_ids(seed, 1 + 7 * seed, runner.facts.vocabulary_size), lasting)
        pairs.append((alone(runner, request)[0], in_a_crowd(runner, request, seed)[0]))

    assert agreement(pairs).rate >= lowest


def test_waiting_times_are_those_of_the_host_to_the_last_bit_of_the_logarithm() -> None:
    seeds = np.array([0, 2**64 - 1, 12345678901234567890], np.uint64)
    candidates, positions = np.array([0, 2**32 - 1, 7], np.uint32), np.array([0, 1_023, 2**32 - 1], np.uint32)
    columns = [torch.from_numpy(part.astype(np.int64)).cuda() for part in (seeds, candidates, positions)]

    ours = WaitingTimes(50_257, CUDA)(*columns)

    np.testing.assert_allclose(ours.cpu().numpy(), waiting_times(seeds, candidates, positions, 50_257), rtol=5e-16)


def test_output_that_is_not_finite_fails_its_slot_and_leaves_the_device_sound() -> None:
    model = build_reference(2, **SIZES, vocab_size=VOCABULARY, tie_word_embeddings=False)
    model.transformer.wte.weight.data[300] = torch.nan
    runner = on_cuda(share_weights(model.cuda()))
    for slot, token in ((0, 5), (1, 300)):
        runner.open(slot, Sampling(top_p=0.9), 0, [token])
    flights = [runner.launch([Chunk(slot, 0, [token], samples=True) for slot, token in ((0, 5), (1, 300))])]
    flights.append(runner.launch([Chunk(slot, 1, (), samples=True, awaits=True) for slot in (0, 1)]))

    with pytest.raises(NonFiniteError) as failure:
        flights[0].result()
    with pytest.raises(NonFiniteError):
        flights[1].result()

    assert failure.value.slots == {1}
    assert runner.run([Chunk(0, 0, [5], samples=True)])[0].drawn


def test_seconds_of_a_step_are_those_of_the_device(network: Network) -> None:
    runner = on_cuda(network)
    runner.open(0, GREEDY, 0, [1])

    flight = runner.launch([Chunk(0, 0, [1], samples=True)])
    flight.result()

    assert 0 < flight.seconds < 60
