"""Heads and signatures."""

from __future__ import annotations

import dataclasses

import pytest
from audit_logs import KEY, OTHER_PUBLIC_KEY, PUBLIC_KEY, calls

from sluicegate.server.audit import Head, parse_head
from sluicegate.server.audit.chain import Draft, Position, Signer, checkpoint_payload, holds

SIGNER = Signer("0" * 32, KEY)
AT = "2026-01-20T07:00:00.000Z"
POSITION = Position(next=7, hash=bytes(range(32)), at=AT)


def test_a_head_is_read_as_it_was_written() -> None:
    head = Head("0" * 32, 17, "f" * 64)

    assert parse_head(str(head)) == head


@pytest.mark.parametrize("text", ["", "a:b:c", f"{'0' * 32}:017:{'f' * 64}", f"{'0' * 32}:17:{'F' * 64}", "\u0661"])
def test_another_text_is_no_head(text: str) -> None:
    with pytest.raises(ValueError, match="LOG:ENTRY:HASH"):
        parse_head(text)


def test_a_checkpoint_is_about_one_log_one_place_and_one_time() -> None:
    checkpoint = SIGNER.sign(POSITION, AT)
    other_place = dataclasses.replace(POSITION, next=8)
    other_hash = dataclasses.replace(POSITION, hash=bytes(32))

    assert holds(PUBLIC_KEY, checkpoint, checkpoint_payload("0" * 32, POSITION, AT))
    assert not holds(OTHER_PUBLIC_KEY, checkpoint, checkpoint_payload("0" * 32, POSITION, AT))
    assert not holds("", checkpoint, checkpoint_payload("0" * 32, POSITION, AT))
    for payload in (
        checkpoint_payload("1" * 32, POSITION, AT),
        checkpoint_payload("0" * 32, other_place, AT),
        checkpoint_payload("0" * 32, other_hash, AT),
        checkpoint_payload("0" * 32, POSITION, AT.replace("07:00", "08:00")),
    ):
        assert not holds(PUBLIC_KEY, checkpoint, payload)


def test_a_draft_leaves_the_position_it_began_at_alone() -> None:
    draft = Draft(POSITION, SIGNER, now=0.0)

    for entry in calls(1):
        draft.add(entry)
    draft.sign()

    assert [record.number for record in draft.records] == [7, 8, 9]
    assert (POSITION.next, draft.position.next, draft.position.unsigned) == (7, 10, 0)
    assert draft.signed == Head("0" * 32, 9, draft.position.hash.hex())
