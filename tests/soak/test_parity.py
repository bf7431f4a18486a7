"""The four GPT-2s at their real sizes, in float32, against transformers over the very same weights.

The weights are random: parity is a matter of arithmetic, and these need no download. The largest takes 10 GB of
memory, so run this file in one process (`-n 0`). Each test prints its figures on one line.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
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

VOCABULARY, CONTEXT = 50_257, 1_024
TOLERANCE = 1e-3
DECODE_STEPS = 64

# GPT-2 starts from 0.02. There the token embedding outweighs the blocks, and the model only repeats its input.
SPREAD = 0.05

# Radford et al. 2019, table 2, with the parameters as counted today: layers, heads, width.
SIZES = {"124M": (12, 12, 768), "355M": (24, 16, 1024), "774M": (36, 20, 1280), "1558M": (48, 25, 1600)}

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3_600)]

Show = Callable[[str], None]


@pytest.fixture(scope="module", params=SIZES)
def reference(request: pytest.FixtureRequest) -> Iterator[Any]:
    """transformers' model of one size; gone before the next one is built."""
    layers, heads, width = SIZES[request.param]
    model = build_reference(
        1, spread=SPREAD, n_layer=layers, n_head=heads, n_embd=width, n_positions=CONTEXT, vocab_size=VOCABULARY
    )
    yield model
    del model
    gc.collect()


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Show:
    """Print a line of figures past pytest's capturing."""

    def print_line(figures: str) -> None:
        with capsys.disabled():
            print(f"\n{request.node.name}: {figures}")

    return print_line


def text(seed: int, length: int, prompt: int, chunk: int, joins: int = 0) -> Text:
    return Text(random_ids(seed, length, VOCABULARY), prompt, chunk, joins)


def test_real_sizes_have_their_known_number_of_parameters(reference: Any, show: Show) -> None:
    parameters = share_weights(reference).config.parameters

    show(f"{parameters} parameters")
    assert parameters == sum(parameter.numel() for parameter in reference.parameters())


@pytest.mark.parametrize("chunk", [CONTEXT, 100], ids=["whole", "chunked"])
def test_prefill_of_the_whole_context_gives_the_logits_of_transformers(reference: Any, chunk: int, show: Show) -> None:
    difference = compare(reference, share_weights(reference), [text(2, CONTEXT, CONTEXT, chunk)])

    show(str(difference))
    assert difference.positions == CONTEXT
    assert difference.largest < TOLERANCE


def test_decoding_in_a_mixed_batch_gives_the_logits_of_transformers(reference: Any, show: Show) -> None:
    texts = [
        text(10, 32 + DECODE_STEPS, prompt=32, chunk=32),
        text(11, 1 + DECODE_STEPS, prompt=1, chunk=1, joins=3),
        text(12, 300 + DECODE_STEPS, prompt=300, chunk=41, joins=5),
        text(13, 9 + DECODE_STEPS, prompt=9, chunk=4, joins=20),
    ]

    difference = compare(reference, share_weights(reference), texts)

    show(str(difference))
    assert difference.positions == 32 + 1 + 300 + 9 + 4 * DECODE_STEPS
    assert difference.largest < TOLERANCE


@pytest.mark.parametrize("reference", ["124M"], indirect=True)
def test_greedy_continuation_is_that_of_transformers(reference: Any, show: Show) -> None:
    prompts = {slot: random_ids(30 + slot, length, VOCABULARY) for slot, length in ((0, 5), (1, 100))}
    runner = build_runner(share_weights(reference), slots=len(prompts))

    output = generate(runner, prompts, dict.fromkeys(prompts, Sampling(temperature=0)), steps=200)

    show(f"2 x 200 tokens, {len({token for tokens in output.values() for token in tokens})} distinct ones among them")
    assert output == {slot: greedy_reference(reference, prompt, 200) for slot, prompt in prompts.items()}
