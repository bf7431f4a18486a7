"""The longest passage of each output that stands in a corpus, byte for byte.

Outputs are few and a corpus is large, so the index is of the outputs: a fingerprint of 64 bits for each of their
windows of 24 bytes. The corpus goes by once, and every 24th window of it is looked up. A passage of 47 bytes or more
holds one of those, whatever its place; fifty tokens of at least a byte each are longer than that. What a fingerprint
points to is compared, so that no chance agreement counts, and extended to both sides.

Windows of one or two different bytes are not in the index: a run of spaces or dashes is no passage, and every other one
would point to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sluicegate.client.evaluation.corpus import Corpus, CorpusFile, Piece, pieces

WINDOW_BYTES = 24
LEAST_BYTES = 2 * WINDOW_BYTES - 1
"""Passages from here on are found."""
_LEAST_DISTINCT = 3
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
"""Odd, with bits of no pattern (those of xxHash); equal windows have equal fingerprints, and little else has."""

_Bytes: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Output:
    """One output: its bytes, and how many of them each token has."""

    content: bytes
    lengths: Sequence[int]


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of an output that stands in a file."""

    tokens: int
    """Whole output tokens in it."""
    size: int
    """Bytes."""
    file: CorpusFile
    offset: int
    """In the file, of its first byte."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of one output."""

    longest: Passage
    """By tokens, then by bytes; the first such in the corpus."""
    files: int
    """In which a passage has `least_tokens` or more."""


def find_passages(
    outputs: Sequence[Output], corpus: Corpus, least_tokens: int, advance: Callable[[int], None]
) -> dict[int, Found]:
    """By the output's number, those with a passage of so many tokens. `advance` is told of bytes looked through.

    Memory: some 60 bytes for each byte of output, and a few pieces of the corpus. Raises FileRefused for a corpus that
    changes meanwhile.
    """
    index = _Index(outputs)
    found: dict[int, Found] = {}
    for file in corpus.files:
        longest: dict[int, Passage] = {}
        for piece in pieces(file, index.margin):
            for number, passage in index.passages(piece, file):
                if passage.tokens >= least_tokens and _is_longer(passage, longest.get(number)):
                    longest[number] = passage
            advance(piece.size)
        for number, passage in longest.items():
            before = found.get(number)
            best = passage if before is None or _is_longer(passage, before.longest) else before.longest
            found[number] = Found(best, 1 if before is None else before.files + 1)
    return found


def _is_longer(passage: Passage, other: Passage | None) -> bool:
    return other is None or (passage.tokens, passage.size) > (other.tokens, other.size)


class _Index:
    """Fingerprints of all windows of the outputs, sorted, and where each window is."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._texts = [np.frombuffer(each.content, np.uint8) for each in outputs]
        self._borders = [np.array([0, *accumulate(each.lengths)]) for each in outputs]
        self.margin = max((len(text) for text in self._texts), default=WINDOW_BYTES)
        """How far a passage can reach beyond a window."""
        prints, owners, places = [], [], []
        for number, text in enumerate(self._texts):
            if len(text) < WINDOW_BYTES:
                continue
            windows = np.lib.stride_tricks.sliding_window_view(text, WINDOW_BYTES)
            kept = np.flatnonzero(_distinct(windows) >= _LEAST_DISTINCT)
            prints.append(_fingerprints(windows[kept]))
            owners.append(np.full(len(kept), number, np.uint32))
            places.append(kept.astype(np.uint32))
        self._prints = np.concatenate([np.empty(0, np.uint64), *prints])
        order = np.argsort(self._prints, kind="stable")
        self._prints = self._prints[order]
        self._owners = np.concatenate([np.empty(0, np.uint32), *owners])[order]
        self._places = np.concatenate([np.empty(0, np.uint32), *places])[order]

    def passages(self, piece: Piece, file: CorpusFile) -> list[tuple[int, Passage]]:
        """Passages with a window that begins in the piece, each as far as it goes, with their outputs' numbers."""
        content = np.frombuffer(piece.content, np.uint8)
        first = piece.before
        # The last block may reach beyond the piece, so that no passage falls between two pieces.
        count = min(len(content) - first, piece.size + WINDOW_BYTES - 1) // WINDOW_BYTES
        prints = _fingerprints(content[first : first + count * WINDOW_BYTES].reshape(-1, WINDOW_BYTES))
        # In order, each search ends near the last one, in memory that the cache has: many times as fast.
        order = np.argsort(prints)
        low = np.searchsorted(self._prints, prints[order])
        high = np.searchsorted(self._prints, prints[order], side="right")
        known = np.flatnonzero(high > low)
        found: list[tuple[int, Passage]] = []
        reached: dict[tuple[int, int], int] = {}
        for block, begin, end in sorted(zip(*(each[known].tolist() for each in (order, low, high)), strict=True)):
            at = first + block * WINDOW_BYTES
            for entry in range(begin, end):
                number, place = int(self._owners[entry]), int(self._places[entry])
                diagonal = number, at - place
                if reached.get(diagonal, 0) > at:
                    continue
                text = self._texts[number]
                start = place - _common(text[:place][::-1], content[:at][::-1])
                stop = place + _common(text[place:], content[at:])
                reached[diagonal] = at - place + stop
                if stop - place >= WINDOW_BYTES:
                    borders = self._borders[number]
                    tokens = int(np.searchsorted(borders, stop, "right") - 1 - np.searchsorted(borders, start))
                    offset = piece.start - piece.before + at - place + start
                    found.append((number, Passage(max(tokens, 0), stop - start, file, offset)))
        return found


def _fingerprints(windows: _Bytes) -> NDArray[np.uint64]:
    """uint64 [n] of uint8 [n, 24]."""
    words = np.ascontiguousarray(windows).view(np.uint64)
    mixed = words * _FACTORS
    mixed ^= mixed >> np.uint64(29)
    return np.asarray((mixed * _FACTORS[::-1]).sum(axis=1, dtype=np.uint64))


def _distinct(windows: _Bytes) -> NDArray[np.intp]:
    """How many different bytes each window has: [n] of uint8 [n, 24]."""
    ordered = np.sort(windows, axis=1)
    return np.asarray(1 + np.count_nonzero(ordered[:, 1:] != ordered[:, :-1], axis=1))


def _common(one: _Bytes, other: _Bytes) -> int:
    """Length of the common beginning."""
    size = min(len(one), len(other))
    differing = np.flatnonzero(one[:size] != other[:size])
    return int(differing[0]) if len(differing) else size
