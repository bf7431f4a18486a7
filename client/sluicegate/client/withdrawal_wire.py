"""What wire.py does, for withdrawals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from types import MappingProxyType

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.client import wire, withdrawals
from sluicegate.v1 import withdrawal_service_pb2 as pb

_PARTS: Mapping[str, type[Message]] = MappingProxyType(
    {
        "token": pb.TokenTarget,
        "issued_before": pb.IssuedBeforeTarget,
        "client": pb.ClientTarget,
        "subject": pb.SubjectTarget,
        "key": pb.KeyTarget,
    }
)
"""Kinds of targets that are messages; the others are an id. Their fields have the names that ours have."""


def create_request(
    target: withdrawals.WithdrawalTarget, justification: str, *, validate_only: bool
) -> pb.CreateWithdrawalRequest:
    """The request. Raises InvalidRequest, also for what is no target."""
    with wire.setting(pb.CreateWithdrawalRequest.DESCRIPTOR.fields_by_name["target"]):
        if not isinstance(target, withdrawals.WithdrawalTarget):
            raise TypeError("not a target")
    return wire.message(
        pb.CreateWithdrawalRequest,
        target=_target_message(target),
        justification=justification,
        validate_only=validate_only,
    )


def lift_request(
    withdrawal_id: str, justification: str, signatures: Mapping[str, str], *, validate_only: bool
) -> pb.LiftWithdrawalRequest:
    """The request. `signatures`: signer → value. Raises InvalidRequest."""
    return wire.message(
        pb.LiftWithdrawalRequest,
        id=withdrawal_id,
        justification=justification,
        signatures=[
            wire.message(pb.LiftingSignature, "signatures.", signer=signer, value=value)
            for signer, value in signatures.items()
        ],
        validate_only=validate_only,
    )


def withdrawal(message: pb.Withdrawal) -> withdrawals.Withdrawal:
    return withdrawals.Withdrawal(
        id=message.id,
        target=_target(message.target),
        created=wire.time(message.create_time),
        justification=message.justification,
        operator=message.operator,
        expires=wire.time(message.expire_time) if message.HasField("expire_time") else None,
    )


def listed(messages: Iterable[pb.Withdrawal]) -> tuple[withdrawals.Withdrawal, ...]:
    return tuple(map(withdrawal, messages))


def _target_message(target: withdrawals.WithdrawalTarget) -> pb.WithdrawalTarget:
    values = {each.name: getattr(target, each.name) for each in fields(target)}
    if target.kind not in _PARTS:
        return wire.message(pb.WithdrawalTarget, "target.", **values)
    path = f"target.{target.kind}."
    if isinstance(target, withdrawals.IssuedBeforeTarget) and target.time is not None:
        with wire.setting(pb.IssuedBeforeTarget.DESCRIPTOR.fields_by_name["time"], path):
            values["time"] = _timestamp(target.time)
    part = wire.message(_PARTS[target.kind], path, **values)
    return wire.message(pb.WithdrawalTarget, "target.", **{target.kind: part})


def _timestamp(time: datetime) -> Timestamp:
    """A time without a zone would be anybody's guess: protobuf's is UTC, Python's is this machine's."""
    if not isinstance(time, datetime) or time.utcoffset() is None:
        raise TypeError("not a time with its zone")
    message = Timestamp()
    message.FromDatetime(time)
    return message


def _target(message: pb.WithdrawalTarget) -> withdrawals.WithdrawalTarget | None:  # noqa: PLR0911  (one a kind)
    """The target; None for a kind that only newer servers know."""
    match message.WhichOneof("target"):
        case "token":
            return withdrawals.TokenTarget(message.token.issuer, message.token.token_id)
        case "issued_before":
            before = message.issued_before
            return withdrawals.IssuedBeforeTarget(
                issuer=before.issuer,
                time=wire.time(before.time) if before.HasField("time") else None,
                client_id=before.client_id or None,
                subject=before.subject or None,
            )
        case "client":
            return withdrawals.ClientTarget(message.client.issuer, message.client.client_id)
        case "subject":
            return withdrawals.SubjectTarget(message.subject.issuer, message.subject.subject)
        case "key":
            return withdrawals.KeyTarget(message.key.issuer, message.key.key_id)
        case "agreement":
            return withdrawals.AgreementTarget(message.agreement)
        case "model":
            return withdrawals.ModelTarget(message.model)
        case "stage":
            return withdrawals.StageTarget(message.stage)
        case _:
            return None
