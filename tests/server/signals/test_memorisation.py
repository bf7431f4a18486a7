from __future__ import annotations

import random
import tracemalloc

import pytest

from sluicegate.server.signals.memorisation import (
    THRESHOLD,
    WINDOW_TOKENS,
    MemorisationScore,
)

KNOWN, ORDINARY = -0.05, -4.0
"""Nats of a token in a recited passage, and in ordinary text."""


def words(number: int, seed: int = 0) -> list[str]:
    """Words that zlib cannot foresee, as it cannot English: about 4 bits a character."""
    draw = random.Random(seed)
    return [" " + "".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 6))) for _ in range(number)]


def scored(pieces: list[str], logprobs: list[float], prompt: str = "") -> MemorisationScore:
    score = MemorisationScore(prompt)
    for piece, logprob in zip(pieces, logprobs, strict=True):
        score.add(piece, logprob)
    return score


def test_fewer_than_64_tokens_have_no_score() -> None:
    score = scored(words(WINDOW_TOKENS - 1), [KNOWN] * (WINDOW_TOKENS - 1))

    assert score.score is None
    assert not score.is_suspect


def test_recited_passage_is_suspect_and_ordinary_text_is_not() -> None:
    assert scored(words(WINDOW_TOKENS), [KNOWN] * WINDOW_TOKENS).is_suspect

    ordinary = scored(words(400), [ORDINARY] * 400)

    assert ordinary.score is not None
    assert ordinary.score < THRESHOLD / 2


@pytest.mark.parametrize("before", range(0, 100, 5))
def test_recited_passage_of_96_tokens_inside_ordinary_text_is_suspect(before: int) -> None:
    logprobs = [ORDINARY] * before + [KNOWN] * 96 + [ORDINARY] * 200

    assert scored(words(before + 96 + 200), logprobs).is_suspect


@pytest.mark.parametrize("period", [1, 7, 64, 150])
def test_a_loop_is_not_suspect_however_long_its_period(period: int) -> None:
    pieces = (words(period) * 600)[:600]

    score = scored(pieces, [ORDINARY] * period + [KNOWN] * (600 - period))

    assert not score.is_suspect


def test_what_is_copied_from_the_prompt_is_not_suspect() -> None:
    pieces = words(WINDOW_TOKENS)
    logprobs = [KNOWN] * WINDOW_TOKENS

    assert not scored(pieces, logprobs, prompt="Say it again: " + "".join(pieces)).is_suspect
    assert scored(pieces, logprobs, prompt="Say it again: " + "".join(words(WINDOW_TOKENS, seed=1))).is_suspect


def test_tokens_without_text_and_impossible_ones_make_no_suspect() -> None:
    assert not scored([""] * 200, [KNOWN] * 200).is_suspect
    assert not scored(words(200), [float("-inf")] * 200).is_suspect
    assert scored(words(200), [0.0] * 200).is_suspect


def test_score_stays_the_highest_of_the_text() -> None:
    score = scored(words(WINDOW_TOKENS), [KNOWN] * WINDOW_TOKENS)
    highest = score.score

    for piece in words(300, seed=1):
        score.add(piece, ORDINARY)

    assert score.score == highest


def test_long_text_of_long_tokens_is_scored_in_bounded_memory() -> None:
    score = MemorisationScore()

    tracemalloc.start()
    for _ in range(2_000):
        score.add("\u00a0" * 128, KNOWN)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 512 * 1024
    assert not score.is_suspect
