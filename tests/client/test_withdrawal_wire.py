from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.client import (
    AgreementTarget,
    ClientTarget,
    FieldViolation,
    InvalidRequest,
    IssuedBeforeTarget,
    KeyTarget,
    ModelTarget,
    StageTarget,
    SubjectTarget,
    TokenTarget,
    WithdrawalTarget,
    withdrawal_wire,
)
from sluicegate.v1 import withdrawal_service_pb2 as pb

ISSUER = "https://issuer.example"
TIME = datetime(2026, 2, 2, 2, 40, tzinfo=UTC)
TARGETS: list[tuple[WithdrawalTarget, pb.WithdrawalTarget]] = [
    (TokenTarget(ISSUER, "t-1"), pb.WithdrawalTarget(token=pb.TokenTarget(issuer=ISSUER, token_id="t-1"))),
    (
        IssuedBeforeTarget(ISSUER, TIME, client_id="app", subject="alice"),
        pb.WithdrawalTarget(
            issued_before=pb.IssuedBeforeTarget(
                issuer=ISSUER, time=Timestamp(seconds=1_770_000_000), client_id="app", subject="alice"
            )
        ),
    ),
    (IssuedBeforeTarget(ISSUER), pb.WithdrawalTarget(issued_before=pb.IssuedBeforeTarget(issuer=ISSUER))),
    (ClientTarget(ISSUER, "app"), pb.WithdrawalTarget(client=pb.ClientTarget(issuer=ISSUER, client_id="app"))),
    (SubjectTarget(ISSUER, "alice"), pb.WithdrawalTarget(subject=pb.SubjectTarget(issuer=ISSUER, subject="alice"))),
    (KeyTarget(ISSUER, "k-1"), pb.WithdrawalTarget(key=pb.KeyTarget(issuer=ISSUER, key_id="k-1"))),
    (AgreementTarget("agr-1"), pb.WithdrawalTarget(agreement="agr-1")),
    (ModelTarget("m"), pb.WithdrawalTarget(model="m")),
    (StageTarget("s1"), pb.WithdrawalTarget(stage="s1")),
]


def test_there_is_a_target_for_each_that_the_api_has() -> None:
    ours = {kind.kind: {each.name for each in fields(kind)} for kind in get_args(WithdrawalTarget)}

    theirs = {
        each.name: {part.name for part in each.message_type.fields} if each.message_type else {each.name}
        for each in pb.WithdrawalTarget.DESCRIPTOR.fields
    }
    assert ours == theirs


@pytest.mark.parametrize(("ours", "theirs"), TARGETS)
def test_every_target_arrives_and_comes_back(ours: WithdrawalTarget, theirs: pb.WithdrawalTarget) -> None:
    request = withdrawal_wire.create_request(ours, "a drill", validate_only=True)

    assert request == pb.CreateWithdrawalRequest(target=theirs, justification="a drill", validate_only=True)
    assert withdrawal_wire.withdrawal(pb.Withdrawal(target=theirs)).target == ours


def test_a_time_of_another_zone_is_the_same_moment() -> None:
    tokyo = TIME.astimezone(timezone(timedelta(hours=9)))

    request = withdrawal_wire.create_request(IssuedBeforeTarget(ISSUER, tokyo), "a drill", validate_only=False)

    assert request.target.issued_before.time.seconds == 1_770_000_000


def test_a_withdrawal_says_what_why_who_and_until_when() -> None:
    message = pb.Withdrawal(
        id="w-1",
        target=pb.WithdrawalTarget(model="m"),
        create_time=Timestamp(seconds=1_770_000_000),
        justification="a drill",
        operator="olga",
    )

    lasting = withdrawal_wire.withdrawal(message)
    message.expire_time.FromSeconds(1_770_003_600)
    passing = withdrawal_wire.withdrawal(message)

    assert (lasting.id, lasting.justification, lasting.operator) == ("w-1", "a drill", "olga")
    assert (lasting.created, lasting.expires) == (TIME, None)
    assert passing.expires == TIME + timedelta(hours=1)


def test_a_target_of_a_newer_server_is_none_and_the_rest_is_shown() -> None:
    newer = pb.Withdrawal(id="w-1", target=pb.WithdrawalTarget.FromString(b"\xf2\x01\x01x"))

    found = withdrawal_wire.withdrawal(newer)

    assert (found.id, found.target) == ("w-1", None)


def create(target: Any, justification: Any = "a drill") -> pb.CreateWithdrawalRequest:
    return withdrawal_wire.create_request(target, justification, validate_only=False)


def lift(id_: Any, signatures: dict[Any, Any]) -> pb.LiftWithdrawalRequest:
    return withdrawal_wire.lift_request(id_, "over", signatures, validate_only=False)


TEXT = "must be text that can be written as UTF-8"
TARGET = "must be one of the targets that `sluicegate.client` has"
ZONE = "must be a time with a time zone"


@pytest.mark.parametrize(
    ("made", "field", "rule"),
    [
        (lambda: create("gpt2-124m"), "target", TARGET),
        (lambda: create(None), "target", TARGET),
        (lambda: create(ModelTarget), "target", TARGET),
        (lambda: create(ModelTarget("m"), "\ud800"), "justification", TEXT),
        (lambda: create(ModelTarget(7)), "target.model", TEXT),  # type: ignore[arg-type]
        (lambda: create(ClientTarget(ISSUER, "\ud800")), "target.client.client_id", TEXT),
        (lambda: create(IssuedBeforeTarget(ISSUER, datetime(2026, 2, 2))), "target.issued_before.time", ZONE),
        (lambda: create(IssuedBeforeTarget(ISSUER, 5)), "target.issued_before.time", ZONE),  # type: ignore[arg-type]
        (lambda: lift(7, {}), "id", TEXT),
        (lambda: lift("w-1", {"release-lead": b"x\xff"}), "signatures.value", TEXT),
    ],
)
def test_what_no_message_can_carry_is_named_with_its_rule(made: Callable[[], object], field: str, rule: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        made()

    assert caught.value.field_violations == (FieldViolation(field, rule),)


def test_signatures_arrive_with_their_signers() -> None:
    request = lift("w-1", {"release-lead": "AAAA", "safety-lead": "BBBB"})

    assert request == pb.LiftWithdrawalRequest(
        id="w-1",
        justification="over",
        signatures=[
            pb.LiftingSignature(signer="release-lead", value="AAAA"),
            pb.LiftingSignature(signer="safety-lead", value="BBBB"),
        ],
    )
