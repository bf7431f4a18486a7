from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sluicegate.client.errors import FileRefused, MeasurementRefused
from sluicegate.client.evaluation.corpus import Corpus, open_corpus
from sluicegate.client.evaluation.prompts import from_corpus, without_prompt
from sluicegate.client.results import Token
from sluicegate.evidence.memorisation import Sampling

TEXT = "".join(f" word{number}" for number in range(300))


async def by_words(text: str) -> Sequence[Token]:
    """A token for each word with the space before it, its id the word's number."""
    words = text.replace(" ", "\0 ").split("\0")
    return [Token(int(word[5:] or 0), word.encode(), None, ()) for word in words if word.startswith(" word")]


def sampling(prompt_tokens: int = 10, seed: int = 0) -> Sampling:
    return Sampling(
        prompts="corpus",
        prompt_tokens=prompt_tokens,
        samples=9,
        max_output_tokens=100,
        temperature=0.0,
        top_k=0,
        seed=seed,
    )


def corpus_of(folder: Path, *texts: str) -> Corpus:
    for number, text in enumerate(texts):
        (folder / str(number)).write_text(text)
    return open_corpus(folder)


async def test_a_prompt_is_what_stands_before_its_place(tmp_path: Path) -> None:
    question = from_corpus(corpus_of(tmp_path, TEXT, "short", TEXT), by_words, sampling())

    for number in range(20):
        asked = await question(number)
        assert asked.place is not None
        before = asked.place.file.path.read_text()[: asked.place.offset]
        assert isinstance(asked.prompt, list)
        assert len(asked.prompt) == 10
        assert before.endswith("".join(f" word{each}" for each in asked.prompt[1:]))


async def test_places_are_the_same_each_time_and_others_with_another_seed(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, TEXT, TEXT)

    first, again, other = [from_corpus(corpus, by_words, sampling(seed=seed)) for seed in (1, 1, 2)]

    assert [await first(number) for number in range(9)] == [await again(number) for number in range(9)]
    assert [await first(number) for number in range(9)] != [await other(number) for number in range(9)]
    assert len({str(await first(number)) for number in range(9)}) > 5


async def test_a_corpus_without_a_passage_of_that_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="hardly a passage of 60 tokens"):
        from_corpus(corpus_of(tmp_path, "short", "shorter"), by_words, sampling())

    question = from_corpus(corpus_of(tmp_path, "x" * 100), by_words, sampling())
    with pytest.raises(FileRefused, match="hardly a passage of 60 tokens"):
        await question(0)


@pytest.mark.parametrize("text", ["日本語の文章です。" * 100, "ж" * 1_000, "\U0001f600" * 500])
async def test_places_in_writing_without_spaces_begin_with_a_character(text: str, tmp_path: Path) -> None:
    asked = []

    async def by_characters(part: str) -> Sequence[Token]:
        asked.append(part)
        return [Token(0, each.encode(), None, ()) for each in part]

    question = from_corpus(corpus_of(tmp_path, text), by_characters, sampling())

    for number in range(9):
        found = await question(number)
        assert found.place is not None
        assert asked[-1] in text
        found.place.file.path.read_bytes()[found.place.offset :].decode()


async def test_without_a_prompt_each_sample_begins_with_the_end_of_text() -> None:
    async def split(text: str) -> Sequence[Token]:
        assert text == "<|endoftext|>"
        return [Token(3839, text.encode(), None, ())]

    question = await without_prompt(split)

    assert (await question(0), (await question(7)).place) == (await question(1), None)
    assert (await question(0)).prompt == [3839]


async def test_a_model_without_an_end_of_text_is_refused() -> None:
    async def split(text: str) -> Sequence[Token]:
        return [Token(1, b"<|", None, ()), Token(2, b"endoftext|>", None, ())]

    with pytest.raises(MeasurementRefused, match="--prompts corpus"):
        await without_prompt(split)
