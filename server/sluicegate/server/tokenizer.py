"""Text to tokens and back. The only home of the `tokenizers` library; torch is not needed for this.

GPT-2's tokenizer is a byte-level BPE (Radford et al. 2019, section 2.2): every token is a fixed string of bytes, so a
table from id to bytes is all that decoding takes, and the bytes of any text are the bytes of its tokens joined.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer as FastTokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from sluicegate.server.errors import CheckpointError

VOCABULARY_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
END_OF_TEXT = "<|endoftext|>"


class Tokenizer:
    """One model's tokenizer; safe to call from any thread."""

    def __init__(self, fast: FastTokenizer) -> None:
        """Raises ValueError if a token of the vocabulary is not spelled in GPT-2's symbols for bytes."""
        fast.no_truncation()
        fast.no_padding()
        self._fast = fast
        self._bytes = _bytes_of_tokens(fast)

    @classmethod
    def load(cls, directory: Path) -> Tokenizer:
        """Read `tokenizer.json`, or GPT-2's own two vocabulary files, from a checkpoint's directory.

        Raises CheckpointError if there is none, if it cannot be read, or if it is not a byte-level BPE.
        """
        try:
            if (path := directory / "tokenizer.json").is_file():
                fast = FastTokenizer.from_file(os.fspath(path))
            else:
                fast = _from_vocabulary(directory)
        except CheckpointError:
            raise
        except Exception as error:  # the library raises bare Exception for every kind of bad file
            raise CheckpointError(f"{directory}: the tokenizer cannot be read: {error}") from error
        if not isinstance(fast.decoder, ByteLevelDecoder):
            raise CheckpointError(f"{directory}: the tokenizer is not a byte-level BPE, as GPT-2's is")
        try:
            return cls(fast)
        except ValueError as error:
            raise CheckpointError(f"{directory}: the tokenizer is not a byte-level BPE: {error}") from error

    @property
    def size(self) -> int:
        """Entries of the vocabulary, added tokens included."""
        return self._fast.get_vocab_size(with_added_tokens=True)

    @cached_property
    def end_of_text(self) -> int | None:
        """Id of the end-of-text token; None if the vocabulary has none."""
        return self._fast.token_to_id(END_OF_TEXT)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text. As in transformers, the text `<|endoftext|>` becomes the end-of-text token."""
        return self._fast.encode(text, add_special_tokens=False).ids

    def token_bytes(self, token: int) -> bytes:
        """Bytes of one token; empty for an id outside the vocabulary (a padded one)."""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Bytes of some tokens, joined."""
        return b"".join(map(self.token_bytes, tokens))


def _bytes_of_tokens(fast: FastTokenizer) -> list[bytes]:
    """The bytes of every token, by id; empty where the vocabulary has a hole."""
    vocabulary = fast.get_vocab(with_added_tokens=True)
    added = fast.get_added_tokens_decoder()
    table = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for symbols, token in vocabulary.items():
        try:
            table[token] = symbols.encode() if token in added else bytes(map(BYTE_OF_SYMBOL.__getitem__, symbols))
        except KeyError as error:
            raise ValueError(f"token {token} holds {error}, which stands for no byte") from None
    return table


def _from_vocabulary(directory: Path) -> FastTokenizer:
    for vocabulary, merges in VOCABULARY_FILES:
        if (directory / vocabulary).is_file() and (directory / merges).is_file():
            fast = FastTokenizer(BPE.from_file(os.fspath(directory / vocabulary), os.fspath(directory / merges)))
            fast.pre_tokenizer = ByteLevel(add_prefix_space=False)
            fast.decoder = ByteLevelDecoder()
            if fast.token_to_id(END_OF_TEXT) is not None:
                fast.add_special_tokens([END_OF_TEXT])
            return fast
    wanted = "tokenizer.json, or " + ", or ".join(" and ".join(pair) for pair in VOCABULARY_FILES)
    raise CheckpointError(f"{directory}: no tokenizer found; expected {wanted}")


def _byte_of_symbol() -> dict[str, int]:
    """GPT-2 writes each byte as one printable character (`bytes_to_unicode` in openai/gpt-2, src/encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF_SYMBOL = _byte_of_symbol()
