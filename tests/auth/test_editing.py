"""Changing the text of a policy file: what is other becomes so, and nothing else."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate.auth.documents import DocumentError, parse_document, write_value
from sluicegate.auth.editing import rewritten
from sluicegate.auth.errors import EditingError

Document = dict[str, Any]

FILE = """\
# Agreed in January.
id: agr-example-lab      # as tokens name it
status: "active"

valid: {from: 2026-01-20T00:00:00Z, until: 2027-01-20T00:00:00Z}   # a year
clients:
- {issuer: "https://issuer.example", client: lab}   # the first
# Quotas were agreed by mail.
quotas:
  requests_per_minute: 60

signature:
  signer: legal-lead   # of the day
  value: abc
# The end.
"""


def changed(text: str, **changes: object) -> str:
    """The file with these members; None takes one out."""
    document: Document = {**parse_document(text.encode()), **changes}
    return rewritten(text.encode(), {key: value for key, value in document.items() if value is not None}).decode()


def refusal(text: str, **changes: object) -> str:
    with pytest.raises(EditingError) as caught:
        changed(text, **changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("a: x  # why\nb: 1\n", "a: y  # why\nb: 1\n", {"a": "y"}),
        ('a: "x"\n', 'a: "y"\n', {"a": "y"}),
        ("a: 'x'\n", "a: 'y'\n", {"a": "y"}),
        ("a: x\n", "a: no\n", {"a": "no"}),
        ("a: x\n", 'a: "12"\n', {"a": "12"}),
        ("a: x\n", "a: 12\n", {"a": 12}),
        ("a: x\n", 'a: "true"\n', {"a": "true"}),
        ("a: 1\n", "a: true\n", {"a": True}),
        ("a: x\n", "a: 2026-01-12T22:00:00Z\n", {"a": "2026-01-12T22:00:00Z"}),
        ("a: x\n", 'a: "https://issuer.example"\n', {"a": "https://issuer.example"}),
        ("a: x\n", 'a: "x: y # z"\n', {"a": "x: y # z"}),
        ("a:\nb: 1\n", "a: x\nb: 1\n", {"a": "x"}),
        ("a: {b: x, c: 1}  # why\n", "a: {b: y, c: 1}  # why\n", {"a": {"b": "y", "c": 1}}),
        ("a: {b: x}\n", "a: {b: x, c: [1]}\n", {"a": {"b": "x", "c": [1]}}),
        ("a:\n  b: x  # why\n", "a:\n  b: x  # why\n  c: {}\n", {"a": {"b": "x", "c": {}}}),
        ("a: [x]\n", "a: [x, y]\n", {"a": ["x", "y"]}),
        ("a: [x, y]\n", "a: [x, z]\n", {"a": ["x", "z"]}),
        ("a:\n- x  # why\n# b\nb: 1\n", "a:\n- x  # why\n- y\n# b\nb: 1\n", {"a": ["x", "y"]}),
        ("a:\n  - x: 1\n    y: 2\n", "a:\n  - x: 1\n    y: 3\n  - x: 4\n", {"a": [{"x": 1, "y": 3}, {"x": 4}]}),
        ("a:\n  - x: 1\n    y: 2\n", "a:\n  - x: 1\n", {"a": [{"x": 1}]}),
        ("a:\n  - x: 1\n    y: 2\n", "a:\n  - {y: 2}\n", {"a": [{"y": 2}]}),
        ("a:\n  - x\n  - y\nb: 1\n", "a: [y]\nb: 1\n", {"a": ["y"]}),
        (
            "a: []  # yet\nb: 1\n",
            "a:\n  - x: 1\n    y: []\n  - z: {}  # yet\nb: 1\n",
            {"a": [{"x": 1, "y": []}, {"z": {}}]},
        ),
        ("a: |\n  x\n\nb: 1\n", "a: y\n\nb: 1\n", {"a": "y"}),
        ("a: x\n# foot\n", "a: x\nb:\n  - {}\n# foot\n", {"b": [{}]}),
        ("a: x", "a: x\nb: 1\n", {"b": 1}),
        ("a: x\r\nb: 1\r\n", "a: x\r\nb: 1\r\nc: 2\r\n", {"c": 2}),
        ("a: x\nb: 1\nc: 2\n", "a: x\nc: 2\n", {"b": None}),
        ("a: x\n# b\nb:  # why\n  c: 1\n\n# d\nd: 2\n", "a: x\n# b\n\n# d\nd: 2\n", {"b": None}),
        ("a: x\nb: 1", "a: x\n", {"b": None}),
        ("{a: x, b: 1}\n", "{a: x}\n", {"b": None}),
        ("--- # head\na: x\n...\n", "--- # head\na: x\nb: 1\n...\n", {"b": 1}),
        ("\ufeffa: \N{GREEK SMALL LETTER ALPHA}\nb: 1\n", "\ufeffa: \N{GREEK SMALL LETTER ALPHA}\nb: 2\n", {"b": 2}),
    ],
)
def test_only_what_is_other_is_written_anew(before: str, after: str, changes: Document) -> None:
    assert changed(before, **changes) == after


def test_an_agreement_is_signed_anew_and_all_else_stays() -> None:
    result = changed(FILE, status="suspended", signature={"signer": "release-lead", "value": "-def_"})

    assert result == FILE.replace('"active"', '"suspended"').replace("legal-lead ", "release-lead ").replace(
        "abc", '"-def_"'
    )


def test_a_signature_is_taken_out_and_all_else_stays() -> None:
    result = changed(FILE, signature=None)

    assert result == re.sub(r"signature:\n(  .*\n)*", "", FILE)


@pytest.mark.parametrize(
    "text",
    ["a: [x, # why\n  y]\n", "a:\n- x\n# why\n- y\n", "a: {x: 1,\n  # why\n  y: 2}\n"],
)
def test_comments_are_not_dropped(text: str) -> None:
    assert refusal(text, a="z") == "line " + str(1 + text.startswith("a:\n")) + (
        ": has comments that would be lost; change it by hand"
    )


def test_what_would_read_otherwise_is_not_written() -> None:
    assert refusal("a: |+\n  x\n\n\n", b=1) == "cannot be changed without changing more; change it by hand"
    assert "would not be readable any more: is larger than" in refusal("a: x\n", b="y" * 300_000)


def test_what_is_no_document_is_not_changed() -> None:
    with pytest.raises(DocumentError):
        rewritten(b"a: &x 1\nb: *x\n", {"a": 2})


def test_the_example_plan_is_opened_by_a_transition() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    [plan, *_] = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    document: Document = parse_document(plan.encode())

    document["active"] = "s2"
    document["transitions"].append({"from": "s1", "to": "s2", "at": "2026-01-19T09:00:00Z", "signatures": []})

    assert rewritten(plan.encode(), document).decode() == plan.replace("active: s1", "active: s2").replace(
        "transitions: []",
        "transitions:\n  - from: s1\n    to: s2\n    at: 2026-01-19T09:00:00Z\n    signatures: []",
    )


_KEYS = st.sampled_from(["a", "b", "no", "1", "x y", "#", "null", "é", "-"])
_SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="utf-8"), max_size=8)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=8
)
_DOCUMENTS = st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=4)


@given(_VALUES)
@example("")
@example("-")
@example(": ")
@example("\N{GRINNING FACE}\x85\n\t")
def test_a_written_value_is_read_as_it_was(value: object) -> None:
    assert parse_document(f"a: {write_value(value)}\n".encode()) == {"a": value}
    assert parse_document(f"[{write_value(value)}]".join(["a: ", "\n"]).encode()) == {"a": [value]}


@given(_DOCUMENTS, _DOCUMENTS, st.sampled_from([True, False, None]))
@example({"a": [None, None, ""]}, {"a": [None, None, "\x85"]}, True)
def test_any_change_gives_what_was_wanted_or_is_refused(before: Document, after: Document, flow: bool | None) -> None:
    raw = yaml.safe_dump(before, default_flow_style=flow, allow_unicode=True, sort_keys=False).encode()
    try:
        start = parse_document(raw)
    except DocumentError:
        return  # written as YAML 1.1 would read it, which is not always as we do

    wanted = {**copy.deepcopy(start), **after}
    assert parse_document(rewritten(raw, wanted)) == wanted
    assert parse_document(rewritten(raw, after)) == after
    assert rewritten(raw, start) == raw
