"""The graph runner gives what TorchRunner gives, with nothing known of a step before it was waited for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from gpt2_reference import build_reference, build_runner, generate, greedy_reference, random_ids, share_weights
from graph_runners import BY_DEVICE, BY_HOST, GREEDY, assert_same, build_graph_runner, crowd, told
from late_device import LateDevice

from sluicegate.server.engine.errors import StepOutOfMemory
from sluicegate.server.engine.messages import Sampling, Submit
from sluicegate.server.engine.runner import Chunk, OverlappingRunner
from sluicegate.server.gpt2 import NonFiniteError
from sluicegate.server.gpt2 import graph_runner as graph_runner_module
from sluicegate.server.gpt2 import runner as runner_module
from sluicegate.server.gpt2.attention import DecodesTogether
from sluicegate.server.gpt2.batch import Batch
from sluicegate.server.gpt2.filters import FEW
from sluicegate.server.gpt2.graph_runner import GraphRunner
from sluicegate.server.gpt2.network import Network

VOCABULARY, CONTEXT, SLOTS = 301, 256, 5
POISON = 300


def decodes_together(batch: Batch, dtype: torch.dtype) -> DecodesTogether:
    return DecodesTogether(batch, dtype, CONTEXT)


@pytest.fixture(scope="module")
def reference() -> Any:
    return build_reference(1, n_layer=3, n_head=4, n_embd=64, n_positions=CONTEXT, vocab_size=VOCABULARY)


@pytest.fixture(scope="module")
def network(reference: Any) -> Network:
    return share_weights(reference, decodes_together)


def ids(seed: int, count: int) -> list[int]:
    return random_ids(seed, count, POISON)


# The same as TorchRunner


@pytest.mark.parametrize("sampling", [*BY_DEVICE.values(), *BY_HOST.values()], ids=[*BY_DEVICE, *BY_HOST])
def test_tokens_are_those_of_the_plain_runner(network: Network, sampling: Sampling) -> None:
    prompts = {slot: ids(slot, 1 + 40 * slot) for slot in range(SLOTS)}
    samplings = dict.fromkeys(prompts, sampling)

    ours = generate(build_graph_runner(network, SLOTS), prompts, samplings, steps=60)

    assert ours == generate(build_runner(network, SLOTS), prompts, samplings, steps=60)


def test_greedy_continuation_is_that_of_transformers(network: Network, reference: Any) -> None:
    prompts = {slot: ids(20 + slot, length) for slot, length in ((0, 1), (2, 100), (4, 9))}

    output = generate(build_graph_runner(network, SLOTS), prompts, dict.fromkeys(prompts, GREEDY), steps=120)

    assert output == {slot: greedy_reference(reference, prompt, 120) for slot, prompt in prompts.items()}


@pytest.mark.parametrize("seed", range(2))
def test_overlapped_steps_give_a_crowd_the_tokens_of_plain_ones(network: Network, seed: int) -> None:
    device, messages = LateDevice(), crowd(seed, VOCABULARY)
    graphs, plain = build_graph_runner(network, SLOTS, device), build_runner(network, SLOTS)

    ours = told(messages, graphs, is_overlapped=True)

    assert_same(ours, told(messages, plain))
    assert device.replays > 100


def test_what_the_engine_asks_of_a_runner_that_can_be_ahead_is_there(network: Network) -> None:
    assert isinstance(build_graph_runner(network, SLOTS), OverlappingRunner)
    assert not isinstance(build_runner(network, SLOTS), OverlappingRunner)


# The order of things


def test_prompts_are_fed_beside_decodes_and_joined_before_anything_is_copied_to_the_host(network: Network) -> None:
    device = LateDevice()
    runner = build_graph_runner(network, SLOTS, device)
    for slot, length in ((0, 1), (1, 40)):
        runner.open(slot, GREEDY, 0, ids(slot, length))
    device.asked.clear()

    flight = runner.launch([Chunk(1, 0, ids(1, 40), samples=True), Chunk(0, 0, ids(0, 1), samples=True)])

    inside = ["beside", "end", "join"]  # of the graph: waiting times
    expected = ["mark", "beside", "end", "replay", *inside, "replay", "join", "download", "download", "mark"]
    assert device.asked == expected
    flight.result()
    assert flight.seconds == 1.0


def test_what_is_done_only_when_a_result_is_taken_counts_as_time_of_its_step(network: Network) -> None:
    runner = build_graph_runner(network, SLOTS, LateDevice())
    runner.open(0, next(iter(BY_HOST.values())), 0, ids(0, 1))

    flight = runner.launch([Chunk(0, 0, ids(0, 1), samples=True)])
    launched = flight.seconds
    flight.result()

    assert (flight.feeds_back, launched, flight.seconds) == (False, 1.0, 2.0)


def test_token_drawn_at_the_end_of_a_prompt_is_awaited_by_the_next_step(network: Network, reference: Any) -> None:
    prompt = ids(30, 50)
    runner = build_graph_runner(network, SLOTS)
    runner.open(2, GREEDY, 0, prompt)

    flights = [runner.launch([Chunk(2, 0, prompt, samples=True)])]
    flights.append(runner.launch([Chunk(2, 50, (), samples=True, awaits=True)]))
    outputs = [flights[0].result()]
    flights.append(runner.launch([Chunk(2, 51, (), samples=True, awaits=True)]))
    outputs += [flight.result() for flight in flights[1:]]

    assert [outcome.drawn[0].id for [outcome] in outputs] == greedy_reference(reference, prompt, 3)


@pytest.mark.parametrize("name", [*BY_DEVICE, *BY_HOST])
@pytest.mark.parametrize("length", [1, 7])
def test_steps_feed_back_unless_the_host_draws(network: Network, name: str, length: int) -> None:
    runner = build_graph_runner(network, SLOTS)
    runner.open(0, (BY_DEVICE | BY_HOST)[name], 0, ids(1, length))
    runner.open(1, GREEDY, 0, ids(2, length))

    flight = runner.launch([Chunk(slot, 0, ids(1 + slot, length), samples=True) for slot in (0, 1)])

    assert flight.feeds_back == (name in BY_DEVICE)
    assert all(outcome.drawn for outcome in flight.result())


def test_a_middle_chunk_of_a_prompt_feeds_back_whoever_draws(network: Network) -> None:
    runner = build_graph_runner(network, SLOTS)
    runner.open(0, BY_HOST["repetition"], 0, ids(1, 9))

    assert runner.launch([Chunk(0, 0, ids(1, 5), samples=False)]).feeds_back
    assert runner.launch([Chunk(0, 5, ids(1, 6)[5:], samples=False)]).feeds_back


def test_scores_and_drafts_are_waited_for_and_those_of_the_plain_runner(network: Network) -> None:
    text = ids(31, 60)
    chunks = [
        Chunk(0, 0, text[:-1], samples=False, targets=text[1:], score_top=2),
        Chunk(1, 0, [*text, 3, 4], samples=True, drafted=2),
        Chunk(2, 0, text[:1], samples=True),
    ]
    outcomes = []
    for runner in (build_graph_runner(network, SLOTS), build_runner(network, SLOTS)):
        runner.open(0, None, 0, text)
        runner.open(1, GREEDY, 0, text)
        runner.open(2, GREEDY, 0, text[:1])
        outcomes.append(runner.run(chunks))
    ours, theirs = outcomes

    assert not build_feeding_back(network, chunks)
    assert ours[0].logprobs == pytest.approx(theirs[0].logprobs, abs=1e-4)
    assert [[token.id for token in outcome.drawn] for outcome in ours] == [
        [token.id for token in outcome.drawn] for outcome in theirs
    ]


def build_feeding_back(network: Network, chunks: Sequence[Chunk]) -> bool:
    """Whether a step of these feeds back; slot 0 scores."""
    runner = build_graph_runner(network, SLOTS)
    for chunk in chunks:
        runner.open(chunk.slot, None if chunk.targets else GREEDY, 0, chunk.given)
    return runner.launch(chunks).feeds_back


def test_id_outside_the_vocabulary_never_reaches_the_device(network: Network) -> None:
    runner = build_graph_runner(network, SLOTS)
    runner.open(0, GREEDY, 0, [1])

    for chunk in (Chunk(0, 0, [VOCABULARY], samples=True), Chunk(0, 0, [1, -1], samples=True)):
        with pytest.raises(AssertionError):
            runner.launch([chunk])


# Filters that reach further than the few


@pytest.fixture(scope="module")
def flat() -> Network:
    """Of a vocabulary beyond the few, with hardly a preference in it."""
    sizes: dict[str, int | bool] = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64}
    return share_weights(build_reference(3, spread=0.02, **sizes, vocab_size=2 * FEW), decodes_together)


FAR = Sampling(seed=11, top_p=0.95)


def test_row_that_is_not_settled_is_void_once_and_looks_further_from_then_on(flat: Network) -> None:
    runner, plain = build_graph_runner(flat, 2), build_runner(flat, 2)
    for each in (runner, plain):
        each.open(0, FAR, 0, [1])
        each.open(1, GREEDY, 0, [2])
    chunks = [Chunk(0, 0, [1], samples=True), Chunk(1, 0, [2], samples=True)]

    first, again = runner.launch(chunks).result(), runner.launch(chunks).result()

    assert [outcome.is_void for outcome in first] == [True, False]
    assert [outcome.is_void for outcome in again] == [False, False]
    assert [outcome.drawn[0].id for outcome in again] == [outcome.drawn[0].id for outcome in plain.run(chunks)]
    runner.close(0)
    runner.open(0, FAR, 0, [1])
    assert runner.launch(chunks).result()[0].is_void


def test_far_reaching_filters_give_the_tokens_of_the_plain_runner(flat: Network) -> None:
    messages = [
        Submit(request=str(seed), model="m", prompt=ids(seed, 3), sampling=sampling, candidates=2)
        for seed in range(4)
        for sampling in [Sampling(seed=seed, top_p=0.7 + 0.08 * seed, max_output_tokens=30)]
    ]
    graphs, plain = build_graph_runner(flat, 4), build_runner(flat, 4)

    ours = told(messages, graphs, is_overlapped=True)

    assert_same(ours, told(messages, plain))


# Failures


@pytest.fixture(scope="module")
def damaged() -> Network:
    """A model whose output is NaN once the token `POISON` has been read."""
    sizes: dict[str, int | bool] = {"n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": CONTEXT}
    model = build_reference(2, **sizes, vocab_size=VOCABULARY, tie_word_embeddings=False)
    model.transformer.wte.weight.data[POISON] = torch.nan
    return share_weights(model, decodes_together)


def test_output_that_is_not_finite_names_the_slots_at_fault_and_the_others_go_on(damaged: Network) -> None:
    runner = build_graph_runner(damaged, SLOTS)
    chunks = [
        Chunk(0, 0, ids(20, 5), samples=True),
        Chunk(1, 0, [1, POISON, 2], samples=True),
        Chunk(2, 0, [POISON], samples=True),
        Chunk(3, 0, [3, POISON], samples=False),
        Chunk(4, 0, [4], samples=True),
    ]
    for chunk in chunks:
        runner.open(chunk.slot, GREEDY, 0, chunk.ids)

    with pytest.raises(NonFiniteError) as failure:
        runner.launch(chunks).result()
    again = runner.run([chunks[0], chunks[4]])

    assert failure.value.slots == {1, 2, 3}
    plain = build_runner(damaged, SLOTS)
    for chunk in (chunks[0], chunks[4]):
        plain.open(chunk.slot, GREEDY, 0, chunk.ids)
    assert [outcome.drawn[0].id for outcome in again] == [
        outcome.drawn[0].id for outcome in plain.run([chunks[0], chunks[4]])
    ]


def test_slot_of_a_failed_sequence_serves_the_next_one(damaged: Network) -> None:
    runner, sound = build_graph_runner(damaged, 1), build_graph_runner(damaged, 1)
    runner.open(0, GREEDY, 0, [1, POISON])
    with pytest.raises(NonFiniteError):
        runner.run([Chunk(0, 0, [*ids(1, 30), POISON], samples=True)])
    runner.close(0)

    output = [generate(each, {0: [5]}, {0: GREEDY}, steps=20) for each in (runner, sound)]

    assert output[0] == output[1]


@pytest.mark.parametrize(
    ("module", "name"),
    [(graph_runner_module, "lay_out"), (graph_runner_module, "upload"), (runner_module, "lay_out")],
    ids=["laid out", "uploaded", "of the others"],
)
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["CUDA", "Python"])
def test_step_that_ran_out_of_memory_can_be_run_again(
    network: Network, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, error: Exception
) -> None:
    runner: GraphRunner = build_graph_runner(network, SLOTS)
    prompt, call = ids(40, 30), getattr(module, name)
    runner.open(0, GREEDY, 0, prompt)
    runner.open(1, BY_HOST["repetition"], 0, prompt)
    chunks = [Chunk(slot, 0, prompt, samples=True) for slot in (0, 1)]

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, name, fail)
    with pytest.raises(StepOutOfMemory) as failure:
        runner.run(chunks)
    monkeypatch.setattr(module, name, call)

    plain = build_runner(network, SLOTS)
    plain.open(0, GREEDY, 0, prompt)
    plain.open(1, BY_HOST["repetition"], 0, prompt)
    assert [outcome.drawn[0].id for outcome in runner.run(chunks)] == [
        outcome.drawn[0].id for outcome in plain.run(chunks)
    ]
    assert failure.value.__cause__ is error
