"""Salted fingerprints: of texts, such that near texts have near ones, and of tokens and networks.

SimHash (Charikar, Similarity estimation techniques from rounding algorithms, STOC 2002) with 64 bits, of which near
duplicates differ in 3 at most (Manku, Jain and Das Sarma, Detecting near-duplicates for web crawling, WWW 2007). The
features are pairs of neighbouring words, each counted once. docs/signals.md has how well it tells templates from prose.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from sluicegate.server.signals.sketches.normalising import LOOKED_AT_CHARACTERS, normalised

BITS = 64
LEAST_WORDS = 3
"""A text of fewer has no fingerprint: two of them are alike too easily."""
SALT_BYTES = 32

Words = NDArray[np.uint64]
"""uint64 [words]: a hash of each."""

_POSITIONS = 64
_IS_WORD = np.array([byte >= 0x80 or chr(byte).isalnum() for byte in range(256)])
_IS_ALONE = np.array([0xE3 <= byte <= 0xE9 for byte in range(256)])
"""First bytes of UTF-8 characters from U+3000 to U+9FFF: of scripts without spaces, each character counts as a word."""


class Fingerprints:
    """Makes fingerprints under one salt: without it nobody can tell whether a known text is behind one.

    Raises ValueError for a salt shorter than SALT_BYTES. Nothing of a text is kept.
    """

    def __init__(self, salt: bytes) -> None:
        if len(salt) < SALT_BYTES:
            raise ValueError(f"a salt has {SALT_BYTES} bytes")
        self._salt = salt[: hashlib.blake2b.MAX_KEY_SIZE]
        count = 256 + _POSITIONS + 2
        drawn = np.frombuffer(hashlib.shake_256(salt).digest(8 * count), "<u8").astype(np.uint64)
        self._of_bytes = drawn[:256]
        self._of_positions = drawn[256 : 256 + _POSITIONS] | np.uint64(1)
        self._first, self._second = drawn[-2:] | np.uint64(1)

    def of_text(self, text: str) -> int | None:
        """The fingerprint of a text's first LOOKED_AT_CHARACTERS; None for fewer than LEAST_WORDS words."""
        words = self._words(normalised(text).encode("utf-8", "replace"))
        if len(words) < LEAST_WORDS:
            return None
        pairs = np.unique(_mixed(words[:-1] * self._first + words[1:] * self._second))
        bits = np.unpackbits(pairs.view(np.uint8)).reshape(-1, BITS)
        twice = 2 * bits.sum(axis=0, dtype=np.int64)
        # A tie goes to one of the pairs: if it always went to 0, the fingerprints of short texts would be near.
        majority = np.where(twice == len(pairs), bits[0], twice > len(pairs))
        return int.from_bytes(np.packbits(majority).tobytes(), "big")

    def exact(self, text: str) -> int:
        """A hash, below 2**64, of a text's first LOOKED_AT_CHARACTERS but for white space: others have others."""
        return self._hash(b"text", " ".join(text[:LOOKED_AT_CHARACTERS].split()).encode("utf-8", "replace"), 8)

    def of_token(self, token: bytes) -> int:
        """A hash, below 2**64, of what names a token."""
        return self._hash(b"token", token, 8)

    def of_network(self, network: bytes) -> int:
        """A hash, below 2**32, of what names a network."""
        return self._hash(b"network", network, 4)

    def _hash(self, kind: bytes, data: bytes, size: int) -> int:
        return int.from_bytes(hashlib.blake2b(data, digest_size=size, key=self._salt, person=kind).digest(), "big")

    def _words(self, data: bytes) -> Words:
        """A hash of each word: the sum over its bytes of a number for the byte times one for its place in the word."""
        text = np.frombuffer(data, np.uint8)
        is_word = _IS_WORD[text]
        begins = is_word.copy()
        begins[1:] &= ~is_word[:-1] | _IS_ALONE[text[1:]]
        starts = np.flatnonzero(begins)
        if not len(starts):
            return np.empty(0, np.uint64)
        at = np.arange(starts[0], len(text))
        places = (at - np.repeat(starts, np.diff(starts, append=len(text)))) % _POSITIONS
        values = self._of_bytes[text[starts[0] :]] * self._of_positions[places] * is_word[starts[0] :]
        return np.add.reduceat(values, starts - starts[0])


def _mixed(values: Words) -> Words:
    """Every bit of the sum into every bit of the hash: the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
