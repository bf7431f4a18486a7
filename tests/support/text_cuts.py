"""Texts cut into pieces, for whatever reads a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Protocol, TypeVar

from hypothesis import strategies as st

Find = TypeVar("Find")


class Scanner(Protocol[Find]):
    def feed(self, text: str) -> list[Find]: ...

    def end(self) -> list[Find]: ...


def scanned(scanner: Scanner[Find], pieces: Iterable[str]) -> list[Find]:
    """All that is found, in the order of telling."""
    found = [find for piece in pieces for find in scanner.feed(piece)]
    return found + scanner.end()


def cut(text: str, places: Iterable[int]) -> list[str]:
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


def texts_with(*examples: str, longest: int = 40) -> st.SearchStrategy[str]:
    """Texts made of these examples, whole or mutilated, and of what may stand around and inside them."""
    part = st.one_of(
        st.sampled_from(examples),
        st.sampled_from(examples).flatmap(lambda example: st.integers(0, len(example)).map(lambda n: example[:n])),
        st.sampled_from([" ", "\n", ".", ", ", "-", "@", "(", "+", "\u200b", "\u00ad", "\u00a0", "x", "1", "é", "中"]),
        st.sampled_from(["word " * 40, "0" * 120, "a." * 100, "\u200b" * 300]),
        st.text(max_size=8),
    )
    return st.lists(part, max_size=longest).map("".join)


CUTS: st.SearchStrategy[Callable[[str], list[str]]] = st.one_of(
    st.just(lambda text: [text]),
    st.just(list),
    st.lists(st.integers(0, 10_000), max_size=60).map(lambda places: lambda text: cut(text, places)),
)
