"""Inputs made of seeds: their octets changed anywhere, or the values of the document that they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

_CHANGES = st.sampled_from((1, 1, 1, 2, 3, 6))
"""Few at a time, mostly: of what is changed in many places, nothing is read beyond the first."""
_REPEATS = (1, 1, 1, 2, 9, 3_000)
"""How often what is put in is repeated: deep nesting, long numbers and long texts are one octet many times."""

_NAMES = st.text(max_size=8) | st.sampled_from(
    ["", "-1", "id", "kind", "sha256", "evidence", "active", "\x00", "\ud800"]
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**30, -0.0, 1e-45, 1e308])
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.text(st.characters(codec=None), max_size=4)
    | st.sampled_from(["public", "9" * 5_000, "x" * 300, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0s", "::/0"])
)
VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)
"""Any value of JSON, and texts that no JSON can hold."""


@st.composite
def changed_octets(draw: st.DrawFn, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A seed, of which stretches are replaced: by nothing, by octets, by a word of its language, by some of a seed."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(_CHANGES)):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from((0, 0, 1)) | st.integers(0, 40))
        other = draw(st.sampled_from(seeds))
        begin = draw(st.integers(0, len(other)))
        stretch = other[begin : begin + draw(st.integers(0, 80))]
        piece = draw(st.binary(max_size=8) | st.sampled_from(words) | st.just(stretch))
        data = data[:start] + piece * draw(st.sampled_from(_REPEATS)) + data[end:]
    return data


@st.composite
def changed_document(draw: st.DrawFn, documents: Sequence[Any]) -> Any:
    """A document, an object or a list, of which values somewhere are others, are missing, or have another name."""
    document = draw(st.sampled_from(documents))
    values = st.sampled_from([part for each in documents for part in _parts(each)]) | VALUES
    for _ in range(draw(_CHANGES)):
        document = _changed(document, values, draw)
    return document


def _parts(value: Any) -> Iterator[Any]:
    """The value and all in it: what stands in one place may be understood in another."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(each)


def _changed(value: Any, values: st.SearchStrategy[Any], draw: st.DrawFn) -> Any:
    """The value with one change at some depth. A document stays one."""
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    places = sorted(copy, key=repr) if isinstance(copy, dict) else list(range(len(copy)))
    match draw(st.sampled_from(["inside", "inside", "inside", "replace", "remove", "add"])):
        case "add" if isinstance(copy, dict):
            copy[draw(_NAMES)] = draw(values)
        case "add":
            copy.append(draw(values))
        case _ if not places:
            return copy
        case "remove":
            del copy[draw(st.sampled_from(places))]
        case "replace":
            copy[draw(st.sampled_from(places))] = draw(values)
        case _:
            place = draw(st.sampled_from(places))
            is_inner = isinstance(copy[place], dict | list)
            copy[place] = _changed(copy[place], values, draw) if is_inner else draw(values)
    return copy
