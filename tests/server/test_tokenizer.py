from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel

import sluicegate.server
from sluicegate.server.errors import CheckpointError
from sluicegate.server.guard import TextStream
from sluicegate.server.tokenizer import BYTE_OF_SYMBOL, END_OF_TEXT, Tokenizer

DEMO = Path(next(iter(sluicegate.server.__path__))) / "demo/models/demo-xs"

TEXTS = {
    "empty": "",
    "english": "The gate was opened, and the water went through it.",
    "spaces": "  two  before\n\n\tand a tab  ",
    "emoji": "🙂🏽‍🚀👩‍👩‍👧‍👦🇪🇺",
    "scripts": "Łódź, Ελλάδα, Россия, 日本語, العربية, हिन्दी",
    "combining": unicodedata.normalize("NFD", "é ñ ü"),
    "control": "".join(map(chr, range(32))) + "\x7f\x85\u2028",
    "no character of its own": "\ufeff\ufffd\U0010ffff\ue000",
    "long": "word " * 500,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(DEMO)


def streamed(tokenizer: Tokenizer, tokens: list[int]) -> str:
    """The text as a caller of a stream reads it, token by token."""
    stream = TextStream([])
    return "".join(stream.feed(tokenizer.token_bytes(token)) for token in tokens) + stream.flush()


@pytest.mark.parametrize("name", TEXTS)
def test_text_comes_back_from_its_tokens(tokenizer: Tokenizer, name: str) -> None:
    tokens = tokenizer.encode(TEXTS[name])

    assert tokenizer.decode(tokens).decode() == TEXTS[name]
    assert streamed(tokenizer, tokens) == TEXTS[name]


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_from_its_tokens(tokenizer: Tokenizer, text: str) -> None:
    assert streamed(tokenizer, tokenizer.encode(text)) == text


def test_character_that_tokens_split_appears_when_it_is_whole(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("🙂")
    stream = TextStream([])

    texts = [stream.feed(tokenizer.token_bytes(token)) for token in tokens]

    assert len(tokens) > 1
    assert texts == [*[""] * (len(tokens) - 1), "🙂"]


def test_single_bytes_are_tokens_so_that_nothing_is_unknown(tokenizer: Tokenizer) -> None:
    tokens = {tokenizer.token_bytes(token) for token in range(tokenizer.size)}

    assert {bytes([byte]) for byte in range(256)} <= tokens


def test_bytes_of_a_text_are_those_of_its_tokens_joined(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(TEXTS["scripts"])

    assert b"".join(tokenizer.token_bytes(token) for token in tokens) == TEXTS["scripts"].encode()


@pytest.mark.parametrize("token", [-1, 10**6])
def test_id_outside_the_vocabulary_has_no_bytes(tokenizer: Tokenizer, token: int) -> None:
    assert tokenizer.token_bytes(token) == b""
    assert tokenizer.decode([token, *tokenizer.encode("a"), token]) == b"a"


def test_end_of_text_is_one_token_spelled_in_full(tokenizer: Tokenizer) -> None:
    end = tokenizer.end_of_text

    assert end is not None
    assert tokenizer.encode(f"a{END_OF_TEXT}b") == [*tokenizer.encode("a"), end, *tokenizer.encode("b")]
    assert tokenizer.token_bytes(end) == END_OF_TEXT.encode()


def test_end_of_text_is_the_one_of_the_models_config(tokenizer: Tokenizer) -> None:
    config = json.loads((DEMO / "config.json").read_text())

    assert (tokenizer.end_of_text, tokenizer.size) == (config["eos_token_id"], config["vocab_size"])


def test_truncation_and_padding_that_a_file_asks_for_are_off(tmp_path: Path) -> None:
    fast = FastTokenizer.from_file(str(DEMO / "tokenizer.json"))
    fast.enable_truncation(max_length=3)
    fast.enable_padding(length=8)
    fast.save(str(tmp_path / "tokenizer.json"))

    tokenizer = Tokenizer.load(tmp_path)

    assert tokenizer.decode(tokenizer.encode(TEXTS["english"])).decode() == TEXTS["english"]
    assert len(tokenizer.encode("a")) == 1


# GPT-2's own two files

VOCABULARY = {**BYTE_OF_SYMBOL, "ab": 256, "Ġab": 257, END_OF_TEXT: 258}
MERGES = "#version: 0.2\na b\nĠ ab\n"


def write_vocabulary(directory: Path, names: tuple[str, str], vocabulary: dict[str, int] = VOCABULARY) -> Path:
    (directory / names[0]).write_text(json.dumps(vocabulary))
    (directory / names[1]).write_text(MERGES)
    return directory


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_two_vocabulary_files_make_a_tokenizer(tmp_path: Path, names: tuple[str, str]) -> None:
    tokenizer = Tokenizer.load(write_vocabulary(tmp_path, names))

    assert tokenizer.encode(f"ab ab{END_OF_TEXT}") == [256, 257, 258]
    assert tokenizer.decode([257, 256]) == b" abab"
    assert (tokenizer.size, tokenizer.end_of_text) == (259, 258)


def test_vocabulary_without_end_of_text_has_none(tmp_path: Path) -> None:
    vocabulary = {symbol: token for symbol, token in VOCABULARY.items() if symbol != END_OF_TEXT}

    assert Tokenizer.load(write_vocabulary(tmp_path, ("vocab.json", "merges.txt"), vocabulary)).end_of_text is None


def test_hole_in_the_vocabulary_has_no_bytes(tmp_path: Path) -> None:
    vocabulary = VOCABULARY | {END_OF_TEXT: 300}

    tokenizer = Tokenizer.load(write_vocabulary(tmp_path, ("vocab.json", "merges.txt"), vocabulary))

    assert tokenizer.token_bytes(258) == b""
    assert tokenizer.token_bytes(300) == END_OF_TEXT.encode()


# What cannot be read


def test_directory_without_a_tokenizer_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")

    with pytest.raises(CheckpointError, match=r"no tokenizer found; expected tokenizer\.json, or vocab\.json and"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"model": {"type": "BPE"}}', "\x00"])
def test_damaged_tokenizer_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)

    with pytest.raises(CheckpointError, match="cannot be read"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(("name", "content"), [("vocab.json", "{"), ("vocab.json", "{}"), ("merges.txt", "a b c\n")])
def test_damaged_vocabulary_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    write_vocabulary(tmp_path, ("vocab.json", "merges.txt"))
    (tmp_path / name).write_text(content)

    with pytest.raises(CheckpointError, match="cannot be read"):
        Tokenizer.load(tmp_path)


def test_tokenizer_that_is_no_byte_level_bpe_is_refused(tmp_path: Path) -> None:
    FastTokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))

    with pytest.raises(CheckpointError, match="not a byte-level BPE"):
        Tokenizer.load(tmp_path)


def test_vocabulary_entry_that_no_bytes_spell_is_refused_at_load(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, ("vocab.json", "merges.txt"), VOCABULARY | {"日本": 259})

    with pytest.raises(CheckpointError, match="not a byte-level BPE: token 259 holds '日', which stands for no byte"):
        Tokenizer.load(tmp_path)
