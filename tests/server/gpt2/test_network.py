from __future__ import annotations

from typing import Any

import pytest
import torch
from gpt2_reference import (
    Text,
    build_reference,
    build_runner,
    compare,
    generate,
    greedy_reference,
    random_ids,
    share_weights,
)

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Chunk
from sluicegate.server.gpt2.attention import DecodesTogether, EachAlone
from sluicegate.server.gpt2.batch import Batch, lay_out
from sluicegate.server.gpt2.cache import Cache
from sluicegate.server.gpt2.network import PrepareAttention

VOCABULARY, CONTEXT = 301, 256
CPU = torch.device("cpu")


def decodes_together(batch: Batch, dtype: torch.dtype) -> DecodesTogether:
    return DecodesTogether(batch, dtype, CONTEXT)


ATTENTIONS = pytest.mark.parametrize("attention", [EachAlone, decodes_together])


@pytest.fixture(scope="module")
def reference() -> Any:
    return build_reference(1, n_layer=3, n_head=4, n_embd=64, n_positions=CONTEXT, vocab_size=VOCABULARY)


def text(seed: int, length: int, prompt: int, chunk: int, joins: int = 0) -> Text:
    return Text(random_ids(seed, length, VOCABULARY), prompt, chunk, joins)


@ATTENTIONS
def test_whole_prefill_gives_the_logits_of_transformers(reference: Any, attention: PrepareAttention) -> None:
    network = share_weights(reference, attention)

    difference = compare(reference, network, [text(2, CONTEXT, CONTEXT, CONTEXT)])

    assert difference.largest < 1e-4


@ATTENTIONS
@pytest.mark.parametrize("chunk", [1, 2, 7, 63, 65, 129])
def test_prefill_in_odd_chunks_gives_the_logits_of_transformers(
    reference: Any, attention: PrepareAttention, chunk: int
) -> None:
    network = share_weights(reference, attention)

    difference = compare(reference, network, [text(3, 150, 150, chunk)])

    assert difference.largest < 1e-4


@ATTENTIONS
def test_mixed_batch_whose_rows_join_and_leave_gives_the_logits_of_transformers(
    reference: Any, attention: PrepareAttention
) -> None:
    network = share_weights(reference, attention)
    texts = [
        text(10, 96, prompt=32, chunk=32),
        text(11, 70, prompt=1, chunk=1, joins=3),
        text(12, 200, prompt=130, chunk=17, joins=5),
        text(13, 20, prompt=9, chunk=4, joins=6),
        text(14, 66, prompt=63, chunk=63, joins=40),
        text(15, CONTEXT, prompt=190, chunk=33, joins=41),
    ]

    difference = compare(reference, network, texts)

    assert difference.largest < 1e-4
    assert difference.positions == 96 + 70 + 200 + 20 + 66 + CONTEXT


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_inner": 100},
        {"tie_word_embeddings": False},
        {"n_head": 1},
        {"n_head": 64},  # one number a head
        {"n_layer": 1, "n_embd": 20, "n_head": 4},
    ],
)
def test_other_sizes_give_the_logits_of_transformers(sizes: dict[str, int | bool]) -> None:
    defaults = {"n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": 64, "vocab_size": 77}
    reference = build_reference(4, **(defaults | sizes))

    difference = compare(reference, share_weights(reference), [Text(random_ids(5, 60, 77), 31, 9)])

    assert difference.largest < 1e-4


@ATTENTIONS
def test_bfloat16_stays_close_to_that_of_transformers(reference: Any, attention: PrepareAttention) -> None:
    rounded = build_reference(1, n_layer=3, n_head=4, n_embd=64, n_positions=CONTEXT, vocab_size=VOCABULARY)
    rounded = rounded.bfloat16()
    network = share_weights(rounded, attention)

    difference = compare(rounded, network, [text(20, 120, 60, 60), text(21, 100, 31, 7, joins=2)])

    assert network.dtype == torch.bfloat16
    assert difference.largest < 0.3  # of logits that reach 10
    assert difference.agreement > 0.9


@ATTENTIONS
def test_greedy_continuation_is_that_of_transformers(reference: Any, attention: PrepareAttention) -> None:
    runner = build_runner(share_weights(reference, attention), slots=3)
    prompts = {slot: random_ids(30 + slot, length, VOCABULARY) for slot, length in ((0, 5), (1, 40), (2, 23))}

    output = generate(runner, prompts, dict.fromkeys(prompts, Sampling(temperature=0)), steps=200)

    assert output == {slot: greedy_reference(reference, prompt, 200) for slot, prompt in prompts.items()}


def test_result_of_a_lone_chunk_is_not_changed_by_what_a_slot_held_before(reference: Any) -> None:
    network = share_weights(reference, decodes_together)
    cache = Cache(network.config, 1, network.dtype, CPU)
    ids = random_ids(40, 8, VOCABULARY)

    with torch.inference_mode():
        fresh = network.forward(lay_out([Chunk(0, 0, ids, samples=False)], CPU), cache)
        network.forward(lay_out([Chunk(0, 0, random_ids(41, 200, VOCABULARY), samples=False)], CPU), cache)
        used = network.forward(lay_out([Chunk(0, 0, ids, samples=False)], CPU), cache)

    assert torch.equal(fresh, used)
