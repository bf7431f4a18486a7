"""The question of whoever has only a part of a text: could a pattern yet match, if the text goes on?

RE2 tells of whole matches alone. But the beginnings of a regular language's words are a regular language too (init(L)
in Hopcroft, Motwani and Ullman, Introduction to Automata Theory, exercise 4.2.6), so the answer is another pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ATOM = re.compile(r"\\.|\[[^]]+\]|[^\\\[\]()|?*+{}.^$]")
_COUNT = re.compile(r"(?P<optional>\?)|(?P<any>\*)|\{(?P<least>\d+)(?:,(?P<most>\d+))?\}")


def beginnings(pattern: bytes) -> bytes:
    r"""The pattern of all that can begin what `pattern` matches, from nothing at all up to the whole.

    It knows what shapes of entities are written in: ASCII characters, classes, `\b`, `(?:...)`, `|`, and the counts
    `?`, `*`, `{n}` and `{m,n}`. Raises ValueError for anything else.
    """
    reader = _Reader(pattern.decode("ascii"))
    begun = reader.alternatives().begun
    if reader.place != len(reader.text):
        raise ValueError(f"not known how a text begins that matches this: {reader.text[reader.place :]}")
    return begun.encode("ascii")


@dataclass(frozen=True, slots=True)
class _Part:
    """The pattern of a part of the text, and that of its beginnings."""

    whole: str
    begun: str


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def alternatives(self) -> _Part:
        """Up to the end of the group."""
        parts = [self._sequence()]
        while self._skip("|"):
            parts.append(self._sequence())
        return _Part(_any(part.whole for part in parts), _any(part.begun for part in parts))

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while (part := self._counted()) is not None:
            parts.append(part)
        begun = ""
        for part in reversed(parts):  # it is begun, or it is over and the next one is
            begun = _any((f"{part.whole}{begun}", part.begun))
        return _Part("".join(part.whole for part in parts), begun)

    def _counted(self) -> _Part | None:
        """One part with its count; None at the end of a sequence."""
        part = self._part()
        count = _COUNT.match(self.text, self.place)
        if part is None or count is None:
            return part
        self.place = count.end()
        whole = f"{_any([part.whole])}{count.group()}"
        if count["optional"]:
            return _Part(whole, part.begun)
        if count["any"]:
            return _Part(whole, f"{whole}{part.begun}")
        before = int(count["most"] or count["least"]) - 1
        return _Part(whole, f"{_any([part.whole])}{{0,{before}}}{part.begun}")

    def _part(self) -> _Part | None:
        if self._skip("(?:"):
            group = self.alternatives()
            if not self._skip(")"):
                raise ValueError("a group does not end")
            return group
        atom = _ATOM.match(self.text, self.place)
        if atom is None:
            return None
        self.place = atom.end()
        return _Part(atom.group(), "" if atom.group() == r"\b" else f"{atom.group()}?")

    def _skip(self, expected: str) -> bool:
        is_there = self.text.startswith(expected, self.place)
        self.place += len(expected) * is_there
        return is_there


def _any(patterns: Iterable[str]) -> str:
    return f"(?:{'|'.join(patterns)})"
