"""What engines are asked to do: shapes of GPT-2, and requests whose lengths and tokens come from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Lengths = Literal["equal", "unequal"]
LENGTHS: tuple[Lengths, ...] = get_args(Lengths)
VOCABULARY = 50_257
CONTEXT = 1_024
SEED = 1
PROMPT_TOKENS = (16, 512)
OUTPUT_TOKENS = (16, 256)
"""Least and most of unequal requests: about as long on average as equal ones, and never a context's end."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a GPT-2; context and vocabulary are those of all that OpenAI released."""

    layers: int
    width: int
    heads: int

    @property
    def weights(self) -> int:
        """Parameters that a step multiplies by: all but the positions; the token embedding as LM head."""
        return self.layer_weights + self.head_weights

    @property
    def layer_weights(self) -> int:
        """Of the layers' linears."""
        return self.layers * 12 * self.width**2

    @property
    def head_weights(self) -> int:
        return VOCABULARY * self.width

    @property
    def parameters(self) -> int:
        """As OpenAI counts them."""
        norms_and_biases = self.layers * 13 * self.width + 2 * self.width
        return self.weights + CONTEXT * self.width + norms_and_biases


SHAPES = {
    "7m": Shape(2, 128, 2),
    "124m": Shape(12, 768, 12),
    "355m": Shape(24, 1024, 16),
    "774m": Shape(36, 1280, 20),
    "1558m": Shape(48, 1600, 25),
}
"""Named as OpenAI's; `7m` is for trials of the benches themselves."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt of token ids, and how many tokens are to follow it."""

    prompt: list[int]
    output: int


def requests(batch: int, lengths: Lengths, prompt: int, output: int, *, turn: int = 0) -> list[Request]:
    """So many requests; the same for the same arguments, so that every engine gets the same.

    `prompt`, `output`: tokens of equal requests; unequal ones are drawn from PROMPT_TOKENS and OUTPUT_TOKENS. Another
    `turn` has the same lengths and other texts, so that no engine finds a prompt that it has read before.
    """
    draws = random.Random(SEED)  # noqa: S311
    texts = random.Random(f"{SEED}, {turn}")  # noqa: S311
    if lengths == "equal":
        sizes = [(prompt, output)] * batch
    else:
        sizes = [(draws.randint(*PROMPT_TOKENS), draws.randint(*OUTPUT_TOKENS)) for _ in range(batch)]
    return [Request(text(size, texts), count) for size, count in sizes]


def text(tokens: int, draws: random.Random) -> list[int]:
    """Random token ids, end-of-text excepted."""
    return [draws.randrange(VOCABULARY - 1) for _ in range(tokens)]


def prompt_tokens(work: Sequence[Request]) -> int:
    return sum(len(request.prompt) for request in work)


def output_tokens(work: Sequence[Request]) -> int:
    return sum(request.output for request in work)
