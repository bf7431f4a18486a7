from __future__ import annotations

import shutil
from pathlib import Path
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
    our_config,
    pack_weights,
    random_ids,
)
from kernel_tiers import tiers_to_test
from torch import Tensor

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Chunk
from sluicegate.server.gpt2.batch import lay_out
from sluicegate.server.gpt2.cache import slot_bytes
from sluicegate.server.gpt2.config import Gpt2Config
from sluicegate.server.gpt2.kernels.build import find_or_build
from sluicegate.server.gpt2.kernels.library import Kernels
from sluicegate.server.gpt2.kernels.processor import Tier, usable_tiers
from sluicegate.server.gpt2.packed import PackedCache, PackedNetwork, can_be_packed

pytestmark = [
    pytest.mark.skipif(not usable_tiers(), reason="this processor has no AVX2"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler is installed"),
]

VOCABULARY, CONTEXT = 301, 256
CPU = torch.device("cpu")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


@pytest.fixture(scope="module", params=tiers_to_test(), ids=lambda tier: tier.name)
def tier(request: pytest.FixtureRequest) -> Tier:
    tier: Tier = request.param
    return tier


@pytest.fixture(scope="module")
def library(tier: Tier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server's would be, but for one that is for tests alone."""
    return find_or_build(tier, None if tier in usable_tiers() else tmp_path_factory.mktemp("kernels") / "kernels")


@pytest.fixture(scope="module")
def kernels(library: Path, tier: Tier) -> Kernels:
    return Kernels(library, tier, threads=2)


@pytest.fixture(scope="module")
def reference() -> Any:
    return build_reference(1, n_layer=3, n_head=2, n_embd=128, n_positions=CONTEXT, vocab_size=VOCABULARY)


def text(seed: int, length: int, prompt: int, chunk: int, joins: int = 0) -> Text:
    return Text(random_ids(seed, length, VOCABULARY), prompt, chunk, joins)


MIXED = [
    text(10, 96, prompt=32, chunk=32),
    text(11, 70, prompt=1, chunk=1, joins=3),
    text(12, 200, prompt=130, chunk=17, joins=5),
    text(13, 20, prompt=9, chunk=4, joins=6),
    text(14, 66, prompt=63, chunk=63, joins=40),
    text(15, CONTEXT, prompt=190, chunk=33, joins=41),
]


def test_mixed_batch_gives_the_logits_of_transformers(reference: Any, kernels: Kernels) -> None:
    difference = compare(reference, pack_weights(reference, kernels), MIXED)

    assert difference.largest < 1e-4
    assert difference.positions == 96 + 70 + 200 + 20 + 66 + CONTEXT


def test_bfloat16_stays_closer_to_the_exact_logits_than_that_of_transformers(reference: Any, kernels: Kernels) -> None:
    rounded = build_reference(1, n_layer=3, n_head=2, n_embd=128, n_positions=CONTEXT, vocab_size=VOCABULARY).bfloat16()
    exact = build_reference(1, n_layer=3, n_head=2, n_embd=128, n_positions=CONTEXT, vocab_size=VOCABULARY)
    exact.load_state_dict(rounded.state_dict())
    ids = random_ids(20, CONTEXT, VOCABULARY)

    with torch.inference_mode():
        true = exact(torch.tensor([ids])).logits[0]
        theirs = (rounded(torch.tensor([ids])).logits[0].float() - true).square().mean().sqrt()
        ours = (logits_of(pack_weights(rounded, kernels, torch.bfloat16), [ids]) - true).square().mean().sqrt()

    assert 0 < ours < theirs


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_inner": 96},
        {"tie_word_embeddings": False},
        {"n_head": 1, "n_embd": 160, "n_inner": 32},
        {"n_head": 3, "n_embd": 96},
        {"n_head": 1, "n_embd": 256},
        {"vocab_size": 32, "n_positions": 61},
        {"vocab_size": 33},
    ],
)
def test_other_sizes_give_the_logits_of_transformers(kernels: Kernels, sizes: dict[str, int | bool]) -> None:
    defaults = {"n_layer": 2, "n_head": 2, "n_embd": 64, "n_positions": 64, "vocab_size": 77}
    reference = build_reference(4, **(defaults | sizes))
    ids = random_ids(5, 60, min(77, reference.config.vocab_size))

    exact = compare(reference, pack_weights(reference, kernels), [Text(ids, 31, 9)])
    for parameter in reference.parameters():
        parameter.data = parameter.data.bfloat16().float()
    rounded = compare(reference, pack_weights(reference, kernels, torch.bfloat16), [Text(ids, 31, 9)])

    assert exact.largest < 1e-4 * exact.deviation
    assert rounded.largest < 0.25 * rounded.deviation


def test_greedy_continuation_is_that_of_transformers(reference: Any, kernels: Kernels) -> None:
    runner = build_runner(pack_weights(reference, kernels), slots=3)
    prompts = {slot: random_ids(30 + slot, length, VOCABULARY) for slot, length in ((0, 5), (1, 40), (2, 23))}

    output = generate(runner, prompts, dict.fromkeys(prompts, Sampling(temperature=0)), steps=200)

    assert output == {slot: greedy_reference(reference, prompt, 200) for slot, prompt in prompts.items()}


# A result depends on its own sequence alone


@torch.inference_mode()
def logits_of(network: PackedNetwork, texts: list[list[int]], sizes: tuple[int, ...] = (CONTEXT,)) -> Tensor:
    """The logits of all positions of texts, fed together in chunks of these sizes in turn."""
    cache = network.new_cache(len(texts))
    rows: list[list[Tensor]] = [[] for _ in texts]
    fed = [0] * len(texts)
    step = 0
    while any(count < len(ids) for count, ids in zip(fed, texts, strict=True)):
        chunks = [
            Chunk(slot, fed[slot], ids[fed[slot] : fed[slot] + sizes[(slot + step) % len(sizes)]], samples=False)
            for slot, ids in enumerate(texts)
            if fed[slot] < len(ids)
        ]
        batch = lay_out(chunks, CPU)
        logits = network.logits(network.forward(batch, cache))
        for span in batch.spans:
            rows[span.slot].append(logits[span.first : span.last])
            fed[span.slot] = span.end
        step += 1
    return torch.cat([torch.cat(parts) for parts in rows])


@DTYPES
def test_result_is_the_same_to_the_bit_alone_and_in_a_crowd_whole_and_in_chunks(
    reference: Any, kernels: Kernels, dtype: torch.dtype
) -> None:
    network = pack_weights(reference, kernels, dtype)
    texts = [random_ids(50 + length, length, VOCABULARY) for length in (CONTEXT, 1, 77, 200, 16, 33, 129)]

    alone = torch.cat([logits_of(network, [ids]) for ids in texts])

    for sizes in ((1, 2, 3, 15), (64, 1, 5, 31), (CONTEXT,)):
        assert torch.equal(alone, logits_of(network, texts, sizes)), sizes


@DTYPES
def test_step_of_more_rows_than_a_core_keeps_at_hand_gives_the_same(
    reference: Any, kernels: Kernels, dtype: torch.dtype
) -> None:
    network = pack_weights(reference, kernels, dtype)
    texts = [random_ids(70 + number, CONTEXT, VOCABULARY) for number in range(10)]  # 2,560 rows of up to 2 KiB

    alone = torch.cat([logits_of(network, [ids]) for ids in texts])

    assert torch.equal(alone, logits_of(network, texts))


@DTYPES
def test_threads_change_no_bit(reference: Any, library: Path, tier: Tier, dtype: torch.dtype) -> None:
    ids = [random_ids(60, 100, VOCABULARY), random_ids(61, 50, VOCABULARY)]

    one, five = (
        logits_of(pack_weights(reference, Kernels(library, tier, threads), dtype), ids, (7, 40)) for threads in (1, 5)
    )

    assert torch.equal(one, five)


# The cache


@DTYPES
@pytest.mark.parametrize("length", [1, 16, 63, 64, 65, 150])
def test_copied_positions_serve_as_if_they_had_been_fed(
    reference: Any, kernels: Kernels, dtype: torch.dtype, length: int
) -> None:
    network = pack_weights(reference, kernels, dtype)
    ids = random_ids(70, 170, VOCABULARY)
    cache = network.new_cache(3)

    with torch.inference_mode():
        network.forward(lay_out([Chunk(2, 0, random_ids(71, 200, VOCABULARY), samples=False)], CPU), cache)
        network.forward(lay_out([Chunk(0, 0, ids[:160], samples=False)], CPU), cache)
        cache.copy(0, 2, length)
        rest = network.forward(lay_out([Chunk(2, length, ids[length:], samples=False)], CPU), cache)

    assert torch.equal(network.logits(rest), logits_of(network, [ids])[length:])


@DTYPES
def test_cleared_slot_is_zeros_and_others_are_left_alone(reference: Any, kernels: Kernels, dtype: torch.dtype) -> None:
    network = pack_weights(reference, kernels, dtype)
    cache = network.new_cache(2)
    with torch.inference_mode():
        chunks = [Chunk(slot, 0, random_ids(slot, 5, VOCABULARY), samples=False) for slot in range(2)]
        network.forward(lay_out(chunks, CPU), cache)

    cache.clear(0)

    assert not cache.entries[:, :, 0].any()
    assert cache.entries[:, :, 1].any()


@pytest.mark.parametrize("context", [1, 64, 65, 1_000])
def test_a_slot_takes_what_is_reckoned_with_whatever_the_context(context: int) -> None:
    config = Gpt2Config(2, 4, 128, 512, context, VOCABULARY)

    assert PackedCache(config, 3, torch.bfloat16).nbytes == 3 * slot_bytes(config, torch.bfloat16)


def test_cache_takes_the_bytes_that_are_reckoned_with(reference: Any, kernels: Kernels) -> None:
    network = pack_weights(reference, kernels, torch.bfloat16)

    cache = network.new_cache(5)

    assert isinstance(cache, PackedCache)
    assert (cache.slots, cache.nbytes) == (5, 5 * 2 * 3 * CONTEXT * 128 * 2)


def test_nan_stays_in_the_sequence_that_has_it(reference: Any, kernels: Kernels) -> None:
    network = pack_weights(reference, kernels)
    cache = network.new_cache(2)
    cache.entries[1, 0, 0] = float("nan")
    sound = random_ids(80, 9, VOCABULARY)

    with torch.inference_mode():
        chunks = [Chunk(0, 4, random_ids(81, 3, VOCABULARY), samples=False), Chunk(1, 0, sound, samples=False)]
        hidden = network.forward(lay_out(chunks, CPU), cache)

    assert hidden[:3].isnan().any(-1).all()
    assert torch.equal(network.logits(hidden[3:]), logits_of(network, [sound]))


@pytest.mark.parametrize(
    ("sizes", "packed"),
    [
        ({}, True),
        ({"n_embd": 80, "n_head": 1}, False),
        ({"n_head": 8}, False),
        ({"n_inner": 100}, False),
        ({"n_embd": 288, "n_head": 1}, False),
    ],
)
def test_only_widths_that_fill_whole_vectors_are_packed(sizes: dict[str, int], packed: bool) -> None:
    defaults = {"n_layer": 1, "n_head": 2, "n_embd": 128, "n_positions": 8, "vocab_size": 9}
    model = build_reference(1, **(defaults | sizes))

    assert can_be_packed(our_config(model), torch.float32) is packed
    assert not can_be_packed(our_config(model), torch.float16)
