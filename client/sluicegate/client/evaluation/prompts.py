"""What samples are asked with: nothing but the end-of-text token, or passages of the corpus."""

from __future__ import annotations

import codecs
import random
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate

from sluicegate.client.errors import FileRefused, MeasurementRefused
from sluicegate.client.evaluation.corpus import Corpus, read_at
from sluicegate.client.evaluation.memorisation import LEAST_TOKENS, MakeQuestion, Place, Question
from sluicegate.client.results import Token
from sluicegate.evidence.memorisation import Sampling

END_OF_TEXT = "<|endoftext|>"
_BYTES_A_TOKEN = 16
"""More than most tokens have, so that a stretch of so many bytes is long enough."""
_LONG_WORD_BYTES = 64
"""Where no word ends in so many bytes, the writing has none, or they are not marked."""
_MOST_TRIES = 200

SplitText = Callable[[str], Awaitable[Sequence[Token]]]
"""A text's tokens, by the model's own tokenizer."""


async def without_prompt(split: SplitText) -> MakeQuestion:
    """Each sample begins where texts begin. Raises MeasurementRefused if the model has no token for that."""
    tokens = await split(END_OF_TEXT)
    if len(tokens) != 1:
        raise MeasurementRefused(f"the model has no token {END_OF_TEXT} to begin with: sample with --prompts corpus")
    start = Question([tokens[0].id], None)

    async def question(_: int) -> Question:
        return start

    return question


def from_corpus(corpus: Corpus, split: SplitText, sampling: Sampling) -> MakeQuestion:
    """Each sample is asked with so many tokens from a place that is drawn evenly over the corpus's bytes.

    A place that has not as many tokens after it in its file as a match needs is drawn anew. Raises FileRefused if no
    file has as many, and the question does if no place is found.
    """
    wanted = sampling.prompt_tokens + LEAST_TOKENS
    too_short = FileRefused(
        f"the corpus has hardly a passage of {wanted} tokens in one file: join its files, or shorten --prompt-tokens"
    )
    files = [file for file in corpus.files if file.bytes >= wanted]
    if not files:
        raise too_short
    ends = list(accumulate(file.bytes for file in files))

    async def question(number: int) -> Question:
        drawn = random.Random(f"{sampling.seed}:{number}")  # noqa: S311  (repeatable, and no secret)
        for _ in range(_MOST_TRIES):
            at = drawn.randrange(ends[-1])
            place = bisect_right(ends, at)
            file = files[place]
            begin = at - ends[place] + file.bytes
            start, text = _passage(read_at(file, begin, _BYTES_A_TOKEN * wanted), is_first=begin == 0)
            tokens = await split(text) if text else ()
            if len(tokens) >= wanted:
                prompt = tokens[: sampling.prompt_tokens]
                offset = begin + start + sum(len(token.bytes) for token in prompt)
                return Question([token.id for token in prompt], Place(file, offset))
        raise too_short

    return question


def _passage(raw: bytes, *, is_first: bool) -> tuple[int, str]:
    """A stretch of UTF-8 from a word's beginning on, or a character's, and where in the stretch that is."""
    near = b"" if is_first else raw[:_LONG_WORD_BYTES]
    places = [place for place, byte in enumerate(near) if byte in b" \n\t"]
    start = places[0] if places else next((place for place, byte in enumerate(near) if byte & 0xC0 != 0x80), 0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    return start, decoder.decode(raw[start:])
