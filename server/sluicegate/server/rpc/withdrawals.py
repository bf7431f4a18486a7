"""WithdrawalService on the wire."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.auth import LEEWAY_SECONDS
from sluicegate.server import state
from sluicegate.server.closing import Closing
from sluicegate.server.paging import page
from sluicegate.server.rpc.call import authenticated
from sluicegate.server.rpc.validation import validate
from sluicegate.v1 import withdrawal_service_pb2
from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceServicer

Context = grpc.aio.ServicerContext[object, object]


class WithdrawalServicer(WithdrawalServiceServicer):
    """Converts and passes on. `max_lifetime_seconds`: no token lives longer, so no entry about one needs to."""

    def __init__(self, closing: Closing, *, max_lifetime_seconds: int, clock: Callable[[], float] = time.time) -> None:
        self._closing = closing
        self._max_lifetime_seconds = max_lifetime_seconds
        self._clock = clock

    async def CreateWithdrawal(
        self, request: withdrawal_service_pb2.CreateWithdrawalRequest, context: Context
    ) -> withdrawal_service_pb2.CreateWithdrawalResponse:
        caller = authenticated(context).caller
        validate(request)
        withdrawal = await self._closing.create(
            caller.principal, self._target(request.target), request.justification, validate_only=request.validate_only
        )
        return withdrawal_service_pb2.CreateWithdrawalResponse(withdrawal=_message(withdrawal))

    async def ListWithdrawals(
        self, request: withdrawal_service_pb2.ListWithdrawalsRequest, context: Context
    ) -> withdrawal_service_pb2.ListWithdrawalsResponse:
        authenticated(context)
        validate(request)
        entries = self._closing.entries()
        shown, following = page(entries, lambda entry: entry.id, request.page_size, request.page_token)
        return withdrawal_service_pb2.ListWithdrawalsResponse(
            withdrawals=map(_message, shown), next_page_token=following
        )

    async def LiftWithdrawal(
        self, request: withdrawal_service_pb2.LiftWithdrawalRequest, context: Context
    ) -> withdrawal_service_pb2.LiftWithdrawalResponse:
        caller = authenticated(context).caller
        validate(request)
        signatures = [(each.signer, each.value) for each in request.signatures]
        await self._closing.lift(
            caller.principal, request.id, request.justification, signatures, validate_only=request.validate_only
        )
        return withdrawal_service_pb2.LiftWithdrawalResponse()

    def _target(self, message: withdrawal_service_pb2.WithdrawalTarget) -> state.Target:
        """The target of a message that was validated."""
        now = math.ceil(self._clock())
        match message.WhichOneof("target"):
            case "token":
                expires_at = now + LEEWAY_SECONDS + self._max_lifetime_seconds
                return state.TokenTarget(message.token.issuer, message.token.token_id, expires_at)
            case "issued_before":
                found = message.issued_before
                before = found.time.seconds + (found.time.nanos > 0) if found.HasField("time") else now
                expires_at = before + self._max_lifetime_seconds
                client, subject = found.client_id or None, found.subject or None
                return state.IssuedBeforeTarget(found.issuer, before, expires_at, client, subject)
            case "client":
                return state.ClientTarget(message.client.issuer, message.client.client_id)
            case "subject":
                return state.SubjectTarget(message.subject.issuer, message.subject.subject)
            case "key":
                return state.KeyTarget(message.key.issuer, message.key.key_id)
            case "agreement":
                return state.AgreementTarget(message.agreement)
            case "model":
                return state.ModelTarget(message.model)
            case other:
                assert other == "stage"
                return state.StageTarget(message.stage)


def _message(withdrawal: state.Withdrawal) -> withdrawal_service_pb2.Withdrawal:
    message = withdrawal_service_pb2.Withdrawal(
        id=withdrawal.id,
        target=_target_message(withdrawal.target),
        create_time=_timestamp(withdrawal.created_at),
        justification=withdrawal.justification,
        operator=withdrawal.operator,
    )
    if withdrawal.expires_at is not None:
        message.expire_time.CopyFrom(_timestamp(withdrawal.expires_at))
    return message


def _target_message(target: state.Target) -> withdrawal_service_pb2.WithdrawalTarget:
    pb = withdrawal_service_pb2
    match target:
        case state.TokenTarget():
            return pb.WithdrawalTarget(token=pb.TokenTarget(issuer=target.issuer, token_id=target.jti))
        case state.IssuedBeforeTarget():
            before = pb.IssuedBeforeTarget(
                issuer=target.issuer,
                time=_timestamp(target.issued_before),
                client_id=target.client or "",
                subject=target.subject or "",
            )
            return pb.WithdrawalTarget(issued_before=before)
        case state.ClientTarget():
            return pb.WithdrawalTarget(client=pb.ClientTarget(issuer=target.issuer, client_id=target.client))
        case state.SubjectTarget():
            return pb.WithdrawalTarget(subject=pb.SubjectTarget(issuer=target.issuer, subject=target.subject))
        case state.KeyTarget():
            return pb.WithdrawalTarget(key=pb.KeyTarget(issuer=target.issuer, key_id=target.kid))
        case state.AgreementTarget():
            return pb.WithdrawalTarget(agreement=target.agreement)
        case state.ModelTarget():
            return pb.WithdrawalTarget(model=target.model)
        case state.StageTarget():
            return pb.WithdrawalTarget(stage=target.stage)


def _timestamp(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)
