from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.server.signals.pii.addresses import EMAIL_RUN
from sluicegate.server.signals.pii.beginnings import beginnings
from sluicegate.server.signals.pii.entities import NUMBERS


@pytest.mark.parametrize(
    ("pattern", "begun", "not_begun"),
    [
        (rb"abc", [b"", b"a", b"ab", b"abc"], [b"b", b"ac", b"abcd"]),
        (rb"a{2,3}b", [b"", b"a", b"aa", b"aaa", b"aab", b"aaab"], [b"ab", b"aaaa"]),
        (rb"a{2}b", [b"a", b"aa", b"aab"], [b"ab", b"aaa"]),
        (rb"a?b", [b"", b"a", b"b", b"ab"], [b"aa"]),
        (rb"a*b", [b"", b"aaaa", b"aab"], [b"ba"]),
        (rb"(?:ab){2,3}", [b"a", b"ab", b"aba", b"abab", b"ababa", b"ababab"], [b"b", b"aa", b"abababa"]),
        (rb"(?:ab|c(?:d|ef)?)?g", [b"", b"a", b"ab", b"abg", b"c", b"ce", b"cdg", b"g"], [b"ad", b"cc", b"ag"]),
        (rb"[0-9]{1,2}\.[0-9]", [b"1", b"12", b"1.", b"12.3"], [b".", b"123", b"1..", b"1.23"]),
        (rb"\+[ .-]?[1-9]", [b"+", b"+ ", b"+-1"], [b"-", b"+  "]),
        (rb"\bab\b", [b"", b"a", b"ab"], [b"b", b"ab "]),
        (rb"", [b""], [b"a"]),
    ],
)
def test_beginnings_are_all_that_may_become_a_match(pattern: bytes, begun: list[bytes], not_begun: list[bytes]) -> None:
    found = re.compile(beginnings(pattern))

    assert [text for text in begun if not found.fullmatch(text)] == []
    assert [text for text in not_begun if found.fullmatch(text)] == []


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_shape_of_an_entity_is_understood(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from((EMAIL_RUN, *NUMBERS)))
    found = re.compile(beginnings(shape))

    matched = data.draw(st.from_regex(re.compile(shape), fullmatch=True))

    assert [end for end in range(len(matched) + 1) if not found.match(matched[:end] + b"\n")] == []
    assert [end for end in range(len(matched) + 1) if not found.fullmatch(matched, 0, end)] == []


@pytest.mark.parametrize(
    "pattern", [rb"(a)", rb"a+", rb"a.", rb"^a", rb"a$", rb"(?:a", rb"a)", rb"{2}", rb"[a", rb"a{2,}"]
)
def test_what_is_not_understood_is_refused(pattern: bytes) -> None:
    with pytest.raises(ValueError, match=r"does not end|not known"):
        beginnings(pattern)
