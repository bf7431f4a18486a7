"""Reads PromQL as far as these tools need it: where durations stand, which metrics are named, which numbers.

A text is cut into words, so that nothing inside a string, a comment or a name is taken for a duration: `increase1h` is
a name, and `"5m"` a label's value. Words are those of the Prometheus documentation, "Expression language data types".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

DURATION = r"\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*"
_MILLISECONDS = {
    "y": 31_536_000_000,
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_OPERATORS = frozenset(
    ("and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset", "atan2")
)
_OF_LABELS = frozenset(("by", "without", "on", "ignoring", "group_left", "group_right"))
"""Operators that a list of labels in parentheses follows."""


class Kind(Enum):
    """What a word is."""

    TEXT = r"(?:\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`|#[^\n]*)"
    NAME = r":*[A-Za-z_][\w:]*"
    DURATION = rf"{DURATION}(?![\w.])"
    NUMBER = r"(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    OTHER = r"\s+|."


@dataclass(frozen=True, slots=True)
class Word:
    """One word, or what lies between two. All words of a text one after the other are the text."""

    kind: Kind
    text: str


_WORD = re.compile("|".join(f"(?P<{kind.name}>{kind.value})" for kind in Kind), re.DOTALL)


def words(expression: str) -> Iterator[Word]:
    """The words of an expression in their order, blanks included."""
    for match in _WORD.finditer(expression):
        assert match.lastgroup is not None, "each branch of the pattern is a group"
        yield Word(Kind[match.lastgroup], match.group())


def metric_names(expression: str) -> frozenset[str]:
    """The metrics that an expression reads; label names, functions and operators are none."""
    found = set()
    kept = [word for word in words(expression) if not word.text.isspace()]
    depth_of_labels = 0
    for index, word in enumerate(kept):
        following = kept[index + 1].text if index + 1 < len(kept) else ""
        if word.text == "{" or (word.text == "(" and index and kept[index - 1].text in _OF_LABELS):
            depth_of_labels += 1
        elif depth_of_labels and word.text in ("}", ")"):
            depth_of_labels -= 1
        elif word.kind is Kind.NAME and not depth_of_labels and following != "(" and word.text not in _OPERATORS:
            found.add(word.text)
    # An aggregation may stand before its labels: `sum by (x) (y)`.
    return frozenset(found - {"sum", "max", "min", "avg", "count", "group", "topk", "bottomk", "inf", "nan"})


def milliseconds(duration: str) -> int:
    """How long a duration as `1h30m` is. Raises ValueError for what is none."""
    if re.fullmatch(DURATION, duration) is None:
        raise ValueError(f"not a duration: {duration}")
    return sum(int(count) * _MILLISECONDS[unit] for count, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))


def written(duration_milliseconds: int) -> str:
    """A duration in the largest unit that gives a whole number."""
    for unit in ("d", "h", "m", "s", "ms"):
        if duration_milliseconds % _MILLISECONDS[unit] == 0:
            return f"{duration_milliseconds // _MILLISECONDS[unit]}{unit}"
    raise AssertionError("every whole number is a whole number of milliseconds")


def scaled(expression: str, factor: int) -> str:
    """The expression with every duration divided: in ranges, subqueries and offsets. Numbers are left as they are.

    Raises ValueError where less than a millisecond, or part of one, would be left.
    """
    return "".join(
        scaled_duration(word.text, factor) if word.kind is Kind.DURATION else word.text for word in words(expression)
    )


def scaled_duration(duration: str, factor: int) -> str:
    """One duration, divided. Nothing stays nothing. Raises ValueError as `scaled` does."""
    whole, rest = divmod(milliseconds(duration), factor)
    if rest:
        raise ValueError(f"{duration} divided by {factor} is not a whole number of milliseconds")
    return written(whole)
