"""GPT-2 on CUDA at its smallest real size: the behaviour that tests/server/gpt2 owns, repeated where it is fast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gpt2_crowd import OTHERS, agreement, alone, asked, in_a_crowd
from gpt2_reference import (
    Text,
    build_reference,
    build_runner,
    compare,
    demo_runner,
    generate,
    greedy_reference,
    random_ids,
    share_weights,
)
from msgspec import structs
from watermarks import scheme_of

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Chunk
from sluicegate.server.gpt2 import NonFiniteError
from sluicegate.server.gpt2.sampler import Sampler, draw

VOCABULARY, CONTEXT = 50_257, 1_024
SIZES = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": CONTEXT, "vocab_size": VOCABULARY}
SETTINGS = [Sampling(), Sampling(top_k=50), Sampling(top_p=0.9), Sampling(temperature=0)]
RUNS, OUTPUT_TOKENS = 20, 100

# bfloat16 keeps 8 bits: a batch of another size can turn a near-tie around.
LOWEST_RATE = {"float32": 0.999, "bfloat16": 0.98}

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def exact_products() -> Iterator[None]:
    """float32 products in full: TF32 keeps 10 bits of a factor."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(precision)


@pytest.fixture(scope="module")
def reference() -> Any:
    return build_reference(1, spread=0.05, **SIZES).cuda()


def text(seed: int, length: int, prompt: int, chunk: int, joins: int = 0) -> Text:
    return Text(random_ids(seed, length, VOCABULARY), prompt, chunk, joins)


@pytest.mark.parametrize("chunk", [CONTEXT, 100], ids=["whole", "chunked"])
def test_prefill_of_the_whole_context_gives_the_logits_of_transformers(reference: Any, chunk: int) -> None:
    assert compare(reference, share_weights(reference), [text(2, CONTEXT, CONTEXT, chunk)]).largest < 1e-3


def test_decoding_in_a_mixed_batch_gives_the_logits_of_transformers(reference: Any) -> None:
    texts = [text(10, 96, 32, 32), text(11, 65, 1, 1, joins=3), text(12, 364, 300, 41, joins=5), text(13, 73, 9, 4, 20)]

    assert compare(reference, share_weights(reference), texts).largest < 1e-3


def test_greedy_continuation_is_that_of_transformers(reference: Any) -> None:
    prompts = {slot: random_ids(30 + slot, length, VOCABULARY) for slot, length in ((0, 5), (1, 400), (2, 64))}
    runner = build_runner(share_weights(reference), slots=len(prompts))

    output = generate(runner, prompts, dict.fromkeys(prompts, Sampling(temperature=0)), steps=200)

    assert output == {slot: greedy_reference(reference, prompt, 200) for slot, prompt in prompts.items()}


@pytest.mark.parametrize("dtype", LOWEST_RATE)
def test_tokens_agree_alone_and_in_a_crowd(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    runner = demo_runner(dtype, slots=OTHERS + 1, device="cuda")
    pairs = []
    for seed in range(RUNS):
        sampling = structs.replace(SETTINGS[seed % 4], seed=seed, max_output_tokens=OUTPUT_TOKENS, ignore_eos=True)
        request = asked(random_ids(seed, 1 + 7 * seed, runner.facts.vocabulary_size), sampling)
        pairs.append((alone(runner, request)[0], in_a_crowd(runner, request, seed)[0]))

    result = agreement(pairs)

    with capsys.disabled():
        print(f"\n{dtype} on CUDA, alone and among {OTHERS} others: {result}, at a rate of {result.rate:.5f}")
    assert result.rate >= LOWEST_RATE[dtype]


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_same_request_twice_gives_the_same_tokens(sampling: Sampling) -> None:
    runner = demo_runner("bfloat16", slots=8, device="cuda")
    lasting = structs.replace(sampling, seed=7, max_output_tokens=OUTPUT_TOKENS, ignore_eos=True)
    request = asked(random_ids(1, 50, runner.facts.vocabulary_size), lasting, candidates=8)

    assert alone(runner, request) == alone(runner, request)


def test_output_that_is_not_finite_fails_its_slot_and_no_other() -> None:
    model = build_reference(
        2, n_layer=2, n_head=4, n_embd=64, n_positions=64, vocab_size=301, tie_word_embeddings=False
    )
    model.transformer.wte.weight.data[300] = torch.nan
    runner = build_runner(share_weights(model.cuda()), 2)
    for slot, token in ((0, 5), (1, 300)):
        runner.open(slot, Sampling(temperature=0), 0, [token])

    with pytest.raises(NonFiniteError) as failure:
        runner.run([Chunk(0, 0, [5], samples=True), Chunk(1, 0, [300], samples=True)])
    [outcome] = runner.run([Chunk(0, 0, [5], samples=True)])

    assert failure.value.slots == {1}
    assert [drawn.id for drawn in outcome.drawn] == greedy_reference(model, [5], 1)


def test_marked_draws_of_the_same_logits_are_the_same_on_the_device() -> None:
    sampler = Sampler(64, CONTEXT, VOCABULARY, scheme_of(1))
    for slot in range(64):
        sampler.open(slot, Sampling(watermark=True, seed=slot, top_p=1 - slot / 100), 0, [1, 2, 3, 4])
    draws = sampler.draws(list(range(64)), [4] * 64)
    logits = 3 * torch.randn(64, VOCABULARY, generator=torch.Generator().manual_seed(1))

    on_the_device = draw(logits.cuda(), draws)

    assert [drawn.id for drawn in on_the_device] == [drawn.id for drawn in draw(logits, draws)]
