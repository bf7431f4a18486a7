"""One accepted spelling of everything that strangers send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.auth.encoding import decode_base64url, encode_base64url, parse_json


@given(st.binary())
def test_base64url_comes_back_unpadded(data: bytes) -> None:
    text = encode_base64url(data)

    assert "=" not in text
    assert decode_base64url(text) == data


@pytest.mark.parametrize("text", ["A", "AA=", "AA==", "AB", "A A", "AA\n", "+/+/", "AAÄ", "AAA\x00", "=", "AA.A"])
def test_another_spelling_of_base64url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        decode_base64url(text)


@given(st.text(max_size=12))
def test_a_text_that_decodes_is_the_one_that_its_bytes_encode_to(text: str) -> None:
    try:
        data = decode_base64url(text)
    except ValueError:
        return
    assert encode_base64url(data) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
def test_json_of_our_own_is_read(value: object) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":1,"\\u0061":2}',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"[-1e400]",
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b"9" * 5000,
        b"[" * 9 + b"]" * 9,
        b"[" * 100_000,
    ],
    ids=lambda raw: raw[:12],
)
def test_json_that_parsers_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(raw)


def test_eight_levels_are_not_too_deep() -> None:
    assert parse_json(b"[" * 8 + b"]" * 8) == [[[[[[[[]]]]]]]]
