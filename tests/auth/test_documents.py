"""Strict YAML: what a policy file may hold, and that nothing else gets through or crashes the reader."""

from __future__ import annotations

from contextlib import suppress

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate.auth.documents import MAX_FILE_BYTES, DocumentError, parse_document


def refusal(raw: bytes) -> str:
    with pytest.raises(DocumentError) as caught:
        parse_document(raw)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("22:00", "22:00"),
        ("2026-01-12", "2026-01-12"),
        ("1.5", "1.5"),
        ("1e3", "1e3"),
        ("0x10", "0x10"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("True", "True"),
        (".inf", ".inf"),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ('"12"', "12"),
        ("'true'", "true"),
        ("[a, 1]", ["a", 1]),
        ("{b: c}", {"b": "c"}),
    ],
)
def test_only_null_true_false_and_whole_numbers_are_not_text(written: str, value: object) -> None:
    assert parse_document(f"a: {written}".encode()) == {"a": value}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a: 1\na: 2", "line 2: 'a' stands here twice"),
        (b"a: &x 1\nb: *x", "line 2: aliases are not used here"),
        (b"a: {b: 1}\nc: {<<: {d: 1}}", "line 2: merge keys are not used here"),
        (b"a: !secret x", "line 1: tags such as !secret"),
        (b"a: !!int abc", "line 1: tags such as tag:yaml.org,2002:int"),
        (b"a: !!bool maybe", "line 1: tags such as tag:yaml.org,2002:bool"),
        (b"a: !!null x", "line 1: tags such as tag:yaml.org,2002:null"),
        (b"a: !!set {b}", "line 1: tags such as tag:yaml.org,2002:set"),
        (b"a: !!omap [b: 1]", "line 1: tags such as tag:yaml.org,2002:omap"),
        (b"a: !!python/object/apply:os.system [ls]", "line 1: tags such as"),
        (b"!!set {a}", "line 1: tags such as tag:yaml.org,2002:set"),
        (b"1: a", "line 1: a key must be a plain word"),
        (b"? [a]\n: b", "line 1: a key must be a plain word"),
        (b"a: [", "line 1: "),
        (b"\ta: 1", "line 1: "),
        (b"---\na: 1\n---\nb: 1", "line 3: "),
        (b"", "must be a mapping"),
        (b"- a", "must be a mapping"),
        (b"text", "must be a mapping"),
        ("a: 1".encode("utf-16"), "is not UTF-8"),
        (b"a: \x00", "is not YAML"),
        (b'a: "\\ud800"', "line 1: a lone surrogate"),
        (b'"\\ud800": a', "line 1: a lone surrogate"),
        (b'a: "\\U00110000"', "has an escape that is no character"),
        (b'a: "\\UFFFFFFFF"', "has an escape that is no character"),
        (b"a: " + b"[" * 12 + b"]" * 12, "line 1: is nested more than 12 levels deep"),
        (b"[" * 5000, "is nested more than 12 levels deep"),
        (b"a: " + b"x" * MAX_FILE_BYTES, "is larger than"),
    ],
)
def test_a_refusal_says_where_and_what(raw: bytes, text: str) -> None:
    assert text in refusal(raw)


def test_twelve_levels_are_not_too_deep() -> None:
    assert parse_document(b"a: " + b"[" * 10 + b"x" + b"]" * 10)["a"]


@given(st.binary(max_size=200) | st.text("ab:-[]{}!&*<>?|'\"\\%@#,0 \n\tuUx~", max_size=60).map(str.encode))
@example(b'? "\\UFFFFFFFF"\n: 1')
def test_any_file_is_read_or_refused_and_what_is_read_has_a_canonical_form(raw: bytes) -> None:
    with suppress(DocumentError):
        assert rfc8785.dumps(parse_document(raw))  # type: ignore[arg-type]
