from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.client.evaluation import matching
from sluicegate.client.evaluation.corpus import Corpus, CorpusFile, Piece, open_corpus, pieces
from sluicegate.client.evaluation.matching import LEAST_BYTES, Found, Output, find_passages

RANDOM = random.Random(7)


def text(size: int) -> bytes:
    return bytes(RANDOM.choices(b"abcdefghijklmnopqrstuvwxyz ", k=size))


def output(content: bytes, token_bytes: int = 1) -> Output:
    whole, rest = divmod(len(content), token_bytes)
    return Output(content, [token_bytes] * whole + ([rest] if rest else []))


def corpus_of(folder: Path, *files: bytes) -> Corpus:
    for number, content in enumerate(files):
        (folder / f"{number:03}").write_bytes(content)
    return open_corpus(folder)


def find(outputs: list[Output], corpus: Corpus, least_tokens: int = 1) -> dict[int, Found]:
    return find_passages(outputs, corpus, least_tokens, lambda _: None)


@pytest.mark.parametrize("place", [0, 1, 23, 24, 25, 500, 953])
def test_a_passage_of_47_bytes_is_found_wherever_it_stands(place: int, tmp_path: Path) -> None:
    passage = text(LEAST_BYTES)
    content = bytearray(text(1_000))
    content[place : place + LEAST_BYTES] = passage
    written = b"A" + passage + b"B"

    found = find([output(written)], corpus_of(tmp_path, bytes(content)))

    longest = found[0].longest
    assert (longest.offset, longest.size, longest.tokens) == (place, LEAST_BYTES, LEAST_BYTES)


def test_only_whole_tokens_of_the_output_count(tmp_path: Path) -> None:
    passage = text(100)
    written = Output(b"xyz" + passage + b"xy", [2, 3, *[4] * 24, 4])  # the passage begins in the second token

    found = find([written], corpus_of(tmp_path, b"--" + passage + b"--"))

    assert (found[0].longest.size, found[0].longest.tokens) == (100, 24)


def test_a_passage_of_too_few_tokens_is_none(tmp_path: Path) -> None:
    passage = text(100)
    corpus = corpus_of(tmp_path, passage)

    assert find([output(b"A" + passage + b"B", 2)], corpus, 50) == {}
    assert find([output(b"AB" + passage + b"B", 2)], corpus, 50)[0].longest.tokens == 50


def test_the_longest_of_several_and_the_first_of_equals_are_told(tmp_path: Path) -> None:
    short, long = text(60), text(120)
    corpus = corpus_of(tmp_path, b"0" + short, b"11" + long, b"222" + long + short)

    found = find([output(short + b"-" + long)], corpus)[0]

    assert (found.longest.file, found.longest.offset, found.longest.size) == (corpus.files[1], 2, 120)
    assert found.files == 3


def test_outputs_are_told_apart(tmp_path: Path) -> None:
    first, second = text(80), text(80)
    corpus = corpus_of(tmp_path, first + b"0" + second)

    found = find([output(text(80)), output(second), output(first), output(b"short")], corpus)

    assert {number: each.longest.offset for number, each in found.items()} == {1: 81, 2: 0}


def test_a_passage_is_found_whole_across_the_pieces_that_a_file_is_read_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passage = text(200)
    monkeypatch.setattr(matching, "pieces", lambda file, margin: pieces(file, margin, 50))

    for before in (0, 10, 49, 50, 51, 333):
        (tmp_path / str(before)).mkdir()
        corpus = corpus_of(tmp_path / str(before), text(before) + passage + text(70))
        longest = find([output(b"A" + passage + b"B")], corpus)[0].longest
        assert (longest.offset, longest.size) == (before, 200)


def test_runs_of_one_or_two_characters_recite_nothing_and_cost_no_time(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, b" " * 2_000_000 + b"-+" * 1_000_000)

    assert find([output(b" " * 1_000), output(b"-+" * 500)], corpus) == {}


def test_what_only_has_a_fingerprint_in_common_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_FACTORS", matching._FACTORS * 0)  # every window has the same

    assert find([output(text(100))], corpus_of(tmp_path, text(500))) == {}


@given(
    st.lists(st.text("ab c", min_size=1, max_size=150).map(str.encode), min_size=1, max_size=3),
    st.lists(st.text("ab c", max_size=150).map(str.encode), min_size=1, max_size=3),
    st.integers(1, 60),
)
def test_it_finds_what_comparing_all_with_all_finds(files: list[bytes], outputs: list[bytes], copied: int) -> None:
    """Against a search of every stretch of every output, on texts of few letters, with something copied."""
    outputs = [*outputs, b"." + files[0][:copied] * 2]
    corpus, content = corpus_in_memory(files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "pieces", lambda file, margin: [Piece(0, file.bytes, 0, content[file.sha256])])
        found = find([output(each) for each in outputs], corpus)

    for number, written in enumerate(outputs):
        longest = longest_in(written, files)
        if longest >= LEAST_BYTES and has_no_run(written):
            assert found[number].longest.size == longest
        if number in found:
            passage = found[number].longest
            there = content[passage.file.sha256][passage.offset : passage.offset + passage.size]
            assert there in written
            assert passage.size <= longest


def corpus_in_memory(files: list[bytes]) -> tuple[Corpus, dict[str, bytes]]:
    named = {hashlib.sha256(each).hexdigest(): each for each in files}
    return Corpus(tuple(CorpusFile(Path(name), len(each), name) for name, each in named.items())), named


def longest_in(written: bytes, files: list[bytes]) -> int:
    best = 0
    for start in range(len(written)):
        while start + best < len(written) and any(written[start : start + best + 1] in each for each in files):
            best += 1
    return best


def has_no_run(written: bytes) -> bool:
    return all(len(set(written[at : at + 24])) > 2 for at in range(len(written) - 23))
