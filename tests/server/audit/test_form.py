"""The one spelling of an entry."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
import rfc8785
from audit_logs import closing, opening
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.auth import Reason
from sluicegate.server.audit.entries import (
    KINDS,
    Checkpoint,
    Denials,
    Entry,
    FindingFiled,
    FindingReviewed,
    Header,
    Interrupted,
    Link,
    Operated,
    Outage,
    PolicyChanged,
    Rotation,
    TornPiece,
    WithdrawalsInForce,
    Withdrawn,
)
from sluicegate.server.audit.form import NO_HASH, chained, check, parse_line, time_text

AT = "2026-01-20T07:00:00.000Z"
IN_FORCE = WithdrawalsInForce(store="5" * 32, change=7, mark="w-7")
EVERY_KIND: list[Entry] = [
    Header(
        format="sluicegate/audit/v1",
        log="0" * 32,
        deployment="example",
        replica="replica-1",
        public_key="A" * 43,
        file=2,
        previous=Link(file=1, entry=16, hash="f" * 64),
        unsigned=3,
        open_calls={"call-1": 64},
        torn=(TornPiece(file="audit.torn", bytes=3, sha256="a" * 64),),
    ),
    Header(
        format="sluicegate/audit/v1",
        log="0" * 32,
        deployment="example",
        replica="replica-1",
        public_key="A" * 43,
        file=2,
        previous=None,
        unsigned=0,
        open_calls={},
        withdrawals=IN_FORCE,
    ),
    opening("call-1"),
    opening("call-1", audience=None, client=None, subject=None, jti_hash=None, kid=None, purpose=None, network=None),
    closing("call-1", redactions={"email": 2}, flags={"hate": 1}, watermark_key="wm-1"),
    closing("call-1", finish=None, code="UNAVAILABLE", reason=Reason.ENGINE_LOST),
    Interrupted(call="call-1"),
    Withdrawn(id="w-1", justification="Misuse.", withdrawal="model", target="gpt2-774m", by=("a" * 32, "b" * 32)),
    IN_FORCE,
    WithdrawalsInForce(store="5" * 32, change=0, mark=None),
    PolicyChanged(revision="5f0c", previous_revision=None, stage="s2", previous_stage=None, signatures_checked=True),
    FindingFiled(
        id="f-1",
        sha256="f" * 64,
        finding="bias",
        severity="high",
        model="gpt2-774m",
        stage="s2",
        partner="example-lab",
        agreement="agr-1",
        client="a" * 32,
    ),
    FindingReviewed(id="f-1", sha256="f" * 64, status="accepted", by=("a" * 32,), justification="It holds."),
    Operated(operation="cancel_request", target="call-1", by=("a" * 32,), justification="It hangs."),
    Denials(since=AT, until=AT, counts={Reason.TOKEN_MISSING: 7, Reason.PEER_RATE_LIMIT: 1}),
    Outage(since=AT, cause="disk_full", openings_lost=3),
    Checkpoint(head="f" * 64, signature="A" * 86),
    Rotation(next_file=3),
]


def line(entry: Entry) -> bytes:
    return chained(17, AT, entry, NO_HASH).line()[:-1]


def test_there_is_an_example_of_every_kind() -> None:
    assert {type(entry) for entry in EVERY_KIND} == set(KINDS.values())


@pytest.mark.parametrize("entry", EVERY_KIND, ids=lambda entry: type(entry).__name__)
def test_what_is_written_is_read_as_the_same(entry: Entry) -> None:
    check(entry)

    record = parse_line(line(entry))

    assert (record.number, record.at, record.entry) == (17, AT, entry)
    assert record.line() == line(entry) + b"\n"
    assert record.follows(NO_HASH)


@pytest.mark.parametrize("entry", EVERY_KIND, ids=lambda entry: type(entry).__name__)
def test_a_line_is_canonical_json_whose_hash_anybody_can_compute(entry: Entry) -> None:
    previous = bytes(range(32))

    written = chained(17, AT, entry, previous).line().removesuffix(b"\n")

    members = json.loads(written)
    assert rfc8785.dumps(members) == written
    assert hashlib.sha256(previous + rfc8785.dumps(members["entry"])).hexdigest() == members["hash"]


@pytest.mark.parametrize(
    "entry",
    [
        closing(""),
        closing("two\nlines"),
        closing("x" * 256),
        closing("\ud800"),
        closing("call-1", emitted_tokens=-1),
        closing("call-1", emitted_tokens=2**53),
        closing("call-1", emitted_tokens=True),
        closing("call-1", duration_ms=0.5),
        closing("call-1", code="ok"),
        closing("call-1", flags={"hate": -1}),
        opening("call-1", client="alice"),
        opening("call-1", scopes=("generate:gpt2-774m\x1b[2J",)),
    ],
)
def test_an_entry_that_no_reader_would_accept_gets_no_place_in_the_log(entry: Entry) -> None:
    with pytest.raises(ValueError, match=r"\$"):
        check(entry)


GOOD = line(closing("call-1"))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"", "no line"),
        (b"{}", "no line"),
        (GOOD + b" ", "no line"),
        (GOOD.replace(b'{"entry":', b'{ "entry":'), "no line"),
        (GOOD[:-66] + GOOD[-66:].upper(), "no hash"),
        (GOOD[:-3] + b"x" + GOOD[-2:], "no hash"),
        (GOOD.replace(b"closing", b"opinion"), "no kind"),
        (GOOD.replace(b'"kind":"closing"', b'"kind":7'), "no kind"),
        (GOOD.replace(b'"n":17', b'"n":-1'), "no number"),
        (GOOD.replace(b'"n":17', b'"n":true'), "no number"),
        (GOOD.replace(b"2026-01-20", b"2026-02-30"), "no time"),
        (GOOD.replace(b"07:00:00.000Z", b"07:00:00Z"), "no time"),
        (GOOD.replace(b'"n":17', b'"n": 17'), "canonical"),
        (GOOD.replace(b'"n":17', b'"n":17,"prompt":"x"'), "canonical"),
        (GOOD.replace(b'"n":17', b'"n":17,"n":17'), "strict JSON"),
        (GOOD.replace(b"call-1", b"call\\u002d1"), "canonical"),
        (GOOD.replace(b"call-1", b"call\xff1"), "strict JSON"),
        (GOOD.replace(b"call-1", b"call\\ud800"), "strict JSON"),
        (GOOD.replace(b'"call-1"', b"[" * 100_000), "strict JSON"),
        (GOOD.replace(b'"call-1"', b"9" * 5000), "strict JSON"),
        (GOOD.replace(b'"call-1"', b"17"), "no good closing"),
        (GOOD.replace(b'"emitted_tokens":12', b'"emitted_tokens":1.2e1'), "no good closing"),
        (GOOD.replace(b'"emitted_tokens":12,', b""), "no good closing"),
    ],
)
def test_a_line_in_any_other_spelling_is_refused(bad: bytes, why: str) -> None:
    assert bad != GOOD

    with pytest.raises(ValueError, match=why):
        parse_line(bad)


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_whatever_stands_in_a_line_it_is_a_record_or_a_value_error(data: bytes) -> None:
    wrapped = b'{"entry":' + data + b',"hash":"' + b"0" * 64 + b'"}'

    for text in (data, wrapped):
        with pytest.raises(ValueError):  # noqa: PT011 - any text will do
            parse_line(text)


@given(position=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7))
def test_no_flip_of_a_bit_leaves_a_line_that_follows(position: int, bit: int) -> None:
    flipped = bytearray(GOOD)
    flipped[position] ^= 1 << bit

    try:
        record = parse_line(bytes(flipped))
    except ValueError:
        return

    assert not record.follows(NO_HASH)


def test_times_sort_as_text() -> None:
    moments = [0.0, 0.0015, 1.0, 1e9, 1_768_892_400.25, 2e9]

    assert [time_text(each) for each in moments] == sorted(map(time_text, moments))
    assert time_text(1_768_892_400.25) == "2026-01-20T07:00:00.250Z"


def test_no_entry_has_a_field_for_what_must_never_be_in_the_log() -> None:
    names = {field.name for kind in KINDS.values() for field in dataclasses.fields(kind)}

    assert not names & {"prompt", "output", "text", "content", "address", "peer", "token", "subject_name", "issuer"}
