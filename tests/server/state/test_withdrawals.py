"""Entries as the stores keep them."""

from __future__ import annotations

import json

import pytest

from sluicegate.server.state import ClientTarget, StoreUnsuitable, Withdrawal
from sluicegate.server.state.withdrawals import decode, encode

ENTRY = Withdrawal("w-1", ClientTarget("https://issuer.example", "c"), 1_770_000_000, "Leaked.", "operator-1")


def test_entry_says_its_kind() -> None:
    assert json.loads(encode(ENTRY))["kind"] == "client"


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "continent"},
        {"target": {"issuer": "https://issuer.example"}},
        {"target": {"issuer": "https://issuer.example", "client": "c", "since": 5}},
        {"target": None},
        {"kind": None},
    ],
)
def test_entry_that_this_release_does_not_understand_is_an_error_and_not_skipped(change: dict[str, object]) -> None:
    text = json.dumps(json.loads(encode(ENTRY)) | change)

    with pytest.raises(StoreUnsuitable, match="another release"):
        decode(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_text_that_is_no_entry_is_an_error(text: str) -> None:
    with pytest.raises(StoreUnsuitable):
        decode(text)
