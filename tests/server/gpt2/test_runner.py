from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from gpt2_reference import build_reference, build_runner, greedy_reference, random_ids, share_weights
from torch import Tensor

from sluicegate.server.engine.errors import ModelLoadError, StepOutOfMemory
from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Chunk, Drawn, Outcome, Runner
from sluicegate.server.gpt2 import NonFiniteError, TorchRunner, sampler
from sluicegate.server.gpt2 import runner as runner_module
from sluicegate.server.gpt2.attention import DecodesTogether, EachAlone
from sluicegate.server.gpt2.batch import Batch
from sluicegate.server.gpt2.network import Network, PrepareAttention
from sluicegate.server.gpt2.runner import SCORED_ROWS

VOCABULARY, CONTEXT, SLOTS = 301, 256, 6
POISON = 300
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def reference() -> Any:
    return build_reference(1, n_layer=3, n_head=4, n_embd=64, n_positions=CONTEXT, vocab_size=VOCABULARY)


@pytest.fixture
def runner(reference: Any) -> TorchRunner:
    return build_runner(share_weights(reference), SLOTS)


def ids(seed: int, count: int) -> list[int]:
    return random_ids(seed, count, VOCABULARY)


@torch.inference_mode()
def reference_logprobs(model: Any, text: Sequence[int]) -> Tensor:
    """float64 [tokens, vocabulary]: after each token of a text."""
    logprobs: Tensor = model(torch.tensor([text])).logits[0].double().log_softmax(-1)
    return logprobs


def drawn(outcome: Outcome) -> Drawn:
    (token,) = outcome.drawn
    return token


def decode(runner: Runner, slot: int, start: int, first: int, steps: int) -> list[int]:
    """The tokens that follow `first`, which stands at position `start`."""
    tokens = [first]
    for position in range(start, start + steps):
        [outcome] = runner.run([Chunk(slot, position, tokens[-1:], samples=True)])
        tokens.append(drawn(outcome).id)
    return tokens[1:]


# A step


def test_empty_step_gives_no_outcomes(runner: TorchRunner) -> None:
    assert runner.run([]) == []


def test_each_kind_of_chunk_gives_its_outcome_in_the_order_of_the_chunks(runner: TorchRunner, reference: Any) -> None:
    prompts = {slot: ids(slot, 20) for slot in (0, 1, 2, 3)}
    for slot in (0, 1, 2):
        runner.open(slot, GREEDY, 0, prompts[slot])
    runner.open(3, None, 0, prompts[3])
    runner.run([Chunk(1, 0, prompts[1][:19], samples=False)])

    outcomes = runner.run(
        [
            Chunk(0, 0, prompts[0][:7], samples=False),
            Chunk(3, 0, prompts[3][:5], samples=False, targets=prompts[3][1:6]),
            Chunk(1, 19, prompts[1][19:], samples=True),
            Chunk(2, 0, prompts[2], samples=True),
        ]
    )

    assert outcomes[0] == Outcome()
    assert len(outcomes[1].logprobs) == 5
    assert not outcomes[1].drawn
    assert drawn(outcomes[2]).id == greedy_reference(reference, prompts[1], 1)[0]
    assert drawn(outcomes[3]).id == greedy_reference(reference, prompts[2], 1)[0]


def test_id_outside_the_vocabulary_never_reaches_the_device(runner: TorchRunner) -> None:
    runner.open(0, GREEDY, 0, [1])

    for chunk in (
        Chunk(0, 0, [VOCABULARY], samples=True),
        Chunk(0, 0, [-1], samples=True),
        Chunk(0, 0, [1], samples=False, targets=[VOCABULARY]),
    ):
        with pytest.raises(AssertionError):
            runner.run([chunk])


# Slots


def test_closed_slot_serves_a_new_sequence_that_knows_nothing_of_the_old_one(
    runner: TorchRunner, reference: Any
) -> None:
    old, new = ids(10, 30), ids(11, 4)
    runner.open(0, Sampling(temperature=1.5, repetition_penalty=1.9, logit_bias={7: 100.0}), 3, old)
    runner.run([Chunk(0, 0, old, samples=True)])
    runner.close(0)

    runner.open(0, GREEDY, 0, new)
    [outcome] = runner.run([Chunk(0, 0, new, samples=True)])

    assert drawn(outcome).id == greedy_reference(reference, new, 1)[0]


def test_copied_prompt_continues_as_if_it_had_been_fed(runner: TorchRunner, reference: Any) -> None:
    prompt = ids(12, 40)
    for slot in (0, 4):
        runner.open(slot, GREEDY, slot, prompt)
    runner.run([Chunk(0, 0, prompt, samples=True)])

    runner.copy(0, 4, 39)
    [outcome] = runner.run([Chunk(4, 39, prompt[39:], samples=True)])

    first = drawn(outcome).id
    assert [first, *decode(runner, 4, 40, first, 20)] == greedy_reference(reference, prompt, 21)


def test_copy_is_not_changed_by_what_its_source_does_next(runner: TorchRunner, reference: Any) -> None:
    prompt = ids(13, 12)
    for slot in (0, 1):
        runner.open(slot, GREEDY, 0, prompt)
    runner.run([Chunk(0, 0, prompt[:11], samples=False)])
    runner.copy(0, 1, 11)

    runner.close(0)
    runner.open(0, GREEDY, 0, ids(14, 60))
    runner.run([Chunk(0, 0, ids(14, 60), samples=True)])
    [outcome] = runner.run([Chunk(1, 11, prompt[11:], samples=True)])

    assert drawn(outcome).id == greedy_reference(reference, prompt, 1)[0]


def test_penalties_follow_each_sequence_through_prompt_chunks_and_output(runner: TorchRunner, reference: Any) -> None:
    prompt, penalty = ids(15, 9), 1.8
    runner.open(2, Sampling(temperature=0, repetition_penalty=penalty), 0, prompt)
    runner.run([Chunk(2, 0, prompt[:4], samples=False)])
    [outcome] = runner.run([Chunk(2, 4, prompt[4:], samples=True)])
    first = drawn(outcome).id

    tokens = [first, *decode(runner, 2, 9, first, 29)]

    expected = reference.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, 9, dtype=torch.int64),
        max_new_tokens=30,
        min_new_tokens=30,
        do_sample=False,
        repetition_penalty=penalty,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert tokens == expected[0, 9:].tolist()
    assert len(set(tokens)) > 20


# Drafts

SAMPLINGS = {
    "greedy": Sampling(temperature=0, logprobs=2),
    "plain": Sampling(seed=3, logprobs=0),
    "top-k": Sampling(seed=4, top_k=20),
    "top-p": Sampling(seed=5, top_p=0.8, temperature=1.3),
    "min-p and typical-p": Sampling(seed=6, min_p=0.01, typical_p=0.9),
    "repetition": Sampling(seed=7, repetition_penalty=1.8),
    "counted": Sampling(seed=8, presence_penalty=0.7, frequency_penalty=0.9, logit_bias={7: 3.0, 300: -9.0}),
    "greedy and counted": Sampling(temperature=0, frequency_penalty=2.0, repetition_penalty=0.8, logprobs=1),
}


@pytest.mark.parametrize("attention", [EachAlone, lambda batch, dtype: DecodesTogether(batch, dtype, CONTEXT)])
def test_drafts_right_or_wrong_change_no_token(reference: Any, attention: PrepareAttention) -> None:
    rng, steps = random.Random(9), 30
    plain, drafting = (build_runner(share_weights(reference, attention), len(SAMPLINGS)) for _ in range(2))
    prompts = {slot: ids(30 + slot, 5 + 3 * slot) for slot in range(len(SAMPLINGS))}
    expected: dict[int, list[Drawn]] = {}
    for slot, sampling in enumerate(SAMPLINGS.values()):
        for runner in (plain, drafting):
            runner.open(slot, sampling, slot, prompts[slot])
        expected[slot] = []
        for position in range(len(prompts[slot]), len(prompts[slot]) + steps):
            fed = expected[slot][-1:]
            chunk = Chunk(slot, position - 1, [fed[0].id], samples=True) if fed else Chunk(slot, 0, prompts[slot], True)
            expected[slot].append(drawn(plain.run([chunk])[0]))

    got: dict[int, list[Drawn]] = {slot: [] for slot in prompts}
    rejected = 0
    while unfinished := [slot for slot in prompts if len(got[slot]) < steps]:
        chunks = []
        for slot in unfinished:
            known = [*prompts[slot], *(token.id for token in got[slot])]
            start = len(known) - 1 if got[slot] else 0
            right = [token.id for token in expected[slot][len(got[slot]) :]][: rng.randrange(5)]
            drafts = [token if rng.random() < 0.8 else rng.randrange(VOCABULARY) for token in right]
            chunks.append(Chunk(slot, start, [*known[start:], *drafts], samples=True, drafted=len(drafts)))
        for chunk, outcome in zip(chunks, drafting.run(chunks), strict=True):
            got[chunk.slot] += outcome.drawn
            rejected += chunk.drafted + 1 - len(outcome.drawn)

    assert rejected > 20
    for slot, tokens in expected.items():
        assert [token.id for token in got[slot][:steps]] == [token.id for token in tokens]
        for ours, theirs in zip(got[slot], tokens, strict=False):
            assert (ours.logprob is None) == (theirs.logprob is None)
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
            assert [entry.id for entry in ours.top] == [entry.id for entry in theirs.top]


def test_drafts_are_accepted_up_to_the_first_wrong_one(runner: TorchRunner, reference: Any) -> None:
    prompt = ids(40, 10)
    right = greedy_reference(reference, prompt, 4)
    wrong = (right[1] + 1) % VOCABULARY
    drawn_ids = []

    for slot, drafts in enumerate([right[:3], [right[0], wrong, right[2]], [wrong, *right[1:3]]]):
        runner.open(slot, GREEDY, 0, prompt)
        [outcome] = runner.run([Chunk(slot, 0, [*prompt, *drafts], samples=True, drafted=3)])
        drawn_ids.append([token.id for token in outcome.drawn])

    assert drawn_ids == [right, right[:2], right[:1]]


def test_a_twin_has_the_same_weights_and_slots_of_its_own(runner: TorchRunner, reference: Any) -> None:
    prompt = ids(41, 10)
    twin = runner.twin(2, None)
    runner.open(0, GREEDY, 0, [7])
    runner.run([Chunk(0, 0, [7] * 30, samples=True)])
    twin.open(0, GREEDY, 0, prompt)

    [outcome] = twin.run([Chunk(0, 0, prompt, samples=True)])

    assert drawn(outcome).id == greedy_reference(reference, prompt, 1)[0]
    assert (twin.facts.slots, runner.facts.slots) == (2, SLOTS)
    assert twin.facts.cache_bytes * SLOTS == runner.facts.cache_bytes * 2


def test_a_twin_whose_slots_do_not_fit_is_refused(runner: TorchRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.server.gpt2.runner.free_bytes", lambda device: runner.facts.cache_bytes)

    assert runner.twin(SLOTS, None).facts.slots == SLOTS
    with pytest.raises(ModelLoadError, match=f"^no memory on cpu for {SLOTS + 1} slots of its own, .*; ask for fewer"):
        runner.twin(SLOTS + 1, None)


@pytest.mark.parametrize("failure", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_twin_whose_slots_cannot_be_allocated_is_refused(
    runner: TorchRunner, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def allocate(*_: object) -> None:
        raise failure

    monkeypatch.setattr(Network, "new_cache", allocate)

    with pytest.raises(ModelLoadError, match="ask for fewer slots"):
        runner.twin(1, None)


# Log-probabilities


def test_drawn_token_has_the_log_probability_that_transformers_gives_it(runner: TorchRunner, reference: Any) -> None:
    prompt = ids(16, 25)
    runner.open(0, Sampling(seed=5, temperature=1.3, logprobs=4), 0, prompt)

    [outcome] = runner.run([Chunk(0, 0, prompt, samples=True)])

    token, expected = drawn(outcome), reference_logprobs(reference, prompt)[-1]
    values, columns = expected.topk(4)
    assert token.logprob == pytest.approx(expected[token.id].item(), abs=1e-4)
    assert [entry.id for entry in token.top] == columns.tolist()
    assert [entry.logprob for entry in token.top] == pytest.approx(values.tolist(), abs=1e-4)


def test_each_row_of_a_step_has_as_many_alternatives_as_it_asked_for(runner: TorchRunner) -> None:
    wanted = {0: None, 1: 0, 2: 3, 3: 1}
    for slot, count in wanted.items():
        runner.open(slot, Sampling(logprobs=count), 0, [9])

    outcomes = runner.run([Chunk(slot, 0, [9], samples=True) for slot in wanted])

    assert [drawn(outcome).logprob is None for outcome in outcomes] == [True, False, False, False]
    assert [len(drawn(outcome).top) for outcome in outcomes] == [0, 0, 3, 1]


# Scores


@pytest.mark.parametrize("chunk", [1, 7, SCORED_ROWS, SCORED_ROWS + 1, CONTEXT])
def test_scores_in_chunks_of_any_size_are_those_of_transformers(
    runner: TorchRunner, reference: Any, chunk: int
) -> None:
    text = ids(17, CONTEXT)
    fed, targets = text[:-1], text[1:]
    runner.open(0, None, 0, fed)
    runner.open(1, GREEDY, 0, fed)

    logprobs: list[float] = []
    top: list[list[int]] = []
    for start in range(0, len(fed), chunk):
        part = slice(start, start + chunk)
        score = Chunk(0, start, fed[part], samples=False, targets=targets[part], score_top=3)
        beside = Chunk(1, start // chunk, fed[start // chunk : start // chunk + 1], samples=True)
        outcome = runner.run([score, beside])[0]
        logprobs += outcome.logprobs
        top += [[entry.id for entry in entries] for entries in outcome.top]

    expected = reference_logprobs(reference, fed)
    assert logprobs == pytest.approx(expected[range(CONTEXT - 1), targets].tolist(), abs=1e-4)
    assert top == expected.topk(3)[1].tolist()


# Output that is not finite


def decodes_together(batch: Batch, dtype: torch.dtype) -> DecodesTogether:
    return DecodesTogether(batch, dtype, CONTEXT)


ATTENTIONS = pytest.mark.parametrize("attention", [EachAlone, decodes_together])


@pytest.fixture(scope="module")
def damaged() -> Any:
    """A model whose output is NaN once the token `POISON` has been read."""
    sizes: dict[str, int | bool] = {"n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": CONTEXT}
    model = build_reference(2, **sizes, vocab_size=VOCABULARY, tie_word_embeddings=False)
    model.transformer.wte.weight.data[POISON] = torch.nan
    return model


def safe_ids(seed: int, count: int) -> list[int]:
    return random_ids(seed, count, POISON)


@ATTENTIONS
@pytest.mark.parametrize(
    ("served", "at_fault"),
    [((0, 1, 2, 3, 4, 5), {1, 2, 3, 4, 5}), ((0, 1, 2), {1, 2}), ((0, 3), {3}), ((0, 4), {4}), ((0, 5), {5})],
)
def test_output_that_is_not_finite_names_the_slots_at_fault(
    damaged: Any, attention: PrepareAttention, served: tuple[int, ...], at_fault: set[int]
) -> None:
    runner = build_runner(share_weights(damaged, attention), SLOTS)
    slots = [
        Chunk(0, 0, safe_ids(20, 5), samples=True),
        Chunk(1, 0, [1, POISON, 2], samples=True),
        Chunk(2, 0, [POISON], samples=True),
        Chunk(3, 0, [3, POISON], samples=False),
        Chunk(4, 0, [POISON], samples=False),
        Chunk(5, 0, [4, POISON, 5], samples=False, targets=[POISON, 5, 6]),
    ]
    chunks = [slots[slot] for slot in served]
    for chunk in chunks:
        runner.open(chunk.slot, None if chunk.targets else GREEDY, 0, chunk.ids)

    with pytest.raises(NonFiniteError, match="NaN or infinite in slots") as failure:
        runner.run(chunks)

    assert failure.value.slots == at_fault


@ATTENTIONS
def test_others_run_again_after_a_failed_step_as_if_it_had_not_been(damaged: Any, attention: PrepareAttention) -> None:
    prompt, sampling = safe_ids(21, 9), Sampling(seed=8, repetition_penalty=1.5, frequency_penalty=0.5)
    runner = build_runner(share_weights(damaged, attention), SLOTS)
    undisturbed = build_runner(share_weights(damaged, attention), SLOTS)
    for each in (runner, undisturbed):
        each.open(0, sampling, 0, prompt)
        [outcome] = each.run([Chunk(0, 0, prompt, samples=True)])
    first = drawn(outcome).id
    runner.open(1, GREEDY, 0, [POISON])

    with pytest.raises(NonFiniteError):
        runner.run([Chunk(0, 9, [first], samples=True), Chunk(1, 0, [POISON], samples=True)])
    runner.close(1)

    assert decode(runner, 0, 9, first, 40) == decode(undisturbed, 0, 9, first, 40)


@ATTENTIONS
def test_slot_of_a_failed_sequence_serves_the_next_one(damaged: Any, attention: PrepareAttention) -> None:
    runner = build_runner(share_weights(damaged, attention), SLOTS)
    runner.open(0, GREEDY, 0, [POISON])
    with pytest.raises(NonFiniteError):
        runner.run([Chunk(0, 0, [1] * 30 + [POISON], samples=True)])
    runner.close(0)

    runner.open(0, GREEDY, 0, [5])
    [outcome] = runner.run([Chunk(0, 0, [5], samples=True)])

    first = drawn(outcome).id
    assert [first, *decode(runner, 0, 1, first, 5)] == greedy_reference(damaged, [5], 6)


def test_logits_that_overflow_behind_a_finite_network_fail_the_slot() -> None:
    model = build_reference(3, n_layer=1, n_head=1, n_embd=8, n_positions=16, vocab_size=20, tie_word_embeddings=False)
    model.lm_head.weight.data *= 1e38
    model.transformer.ln_f.weight.data *= 1e3
    runner = build_runner(share_weights(model), 2)
    runner.open(1, GREEDY, 0, [1])

    with pytest.raises(NonFiniteError) as failure:
        runner.run([Chunk(1, 0, [1], samples=True)])

    assert failure.value.slots == {1}


# Memory


@pytest.mark.parametrize(
    ("module", "name"), [(runner_module, "lay_out"), (sampler, "adjust"), (sampler, "log_probabilities")]
)
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=["CUDA", "CPU", "cuBLAS", "Python"],
)
def test_a_step_that_ran_out_of_memory_can_be_run_again_as_if_it_had_not_been(
    runner: TorchRunner, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, error: Exception
) -> None:
    prompt, sampling = ids(16, 9), Sampling(seed=8, presence_penalty=0.7, frequency_penalty=0.9, logprobs=1)
    for slot in (0, 1):
        runner.open(slot, sampling, 0, prompt)
    [outcome] = runner.run([Chunk(0, 0, prompt, samples=True)])
    undisturbed = [drawn(outcome).id, *decode(runner, 0, 9, drawn(outcome).id, 12)]
    call = getattr(module, name)

    tokens = [*prompt]
    while len(tokens) < len(prompt) + len(undisturbed):
        start = 0 if len(tokens) == len(prompt) else len(tokens) - 1
        chunk = Chunk(1, start, tokens[start:], samples=True)
        monkeypatch.setattr(module, name, raising(error))
        with pytest.raises(StepOutOfMemory) as failure:
            runner.run([chunk])
        monkeypatch.setattr(module, name, call)
        tokens.append(drawn(runner.run([chunk])[0]).id)

    assert tokens[len(prompt) :] == undisturbed
    assert failure.value.__cause__ is error


def test_another_failure_of_torch_is_not_taken_for_a_lack_of_memory(
    runner: TorchRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.open(0, Sampling(), 0, [1])
    monkeypatch.setattr(runner_module, "lay_out", raising(RuntimeError("no kernel image is available")))

    with pytest.raises(RuntimeError, match="no kernel image"):
        runner.run([Chunk(0, 0, [1], samples=True)])


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail
