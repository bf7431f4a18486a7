"""What operators close: through WithdrawalService, or as another replica that knows names which this one does not."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from harness import EVERY_SCOPE, LONG_SECONDS, Server, bearer, until
from issuer import ISSUER, OPERATOR_KEY, token

from sluicegate.server import state
from sluicegate.v1 import withdrawal_service_pb2 as pb
from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceStub


def operator(server: Server) -> tuple[tuple[str, str], ...]:
    """An operator's token, which nothing that is closed for others closes: of another key, client, subject and time."""
    issued_at = int(server.clock.now) + 20  # within the leeway, hence after every "issued before" of a test
    claims = {"sub": "olga", "client_id": "operations", "jti": "olga-1", "scope": EVERY_SCOPE}
    return bearer(token(OPERATOR_KEY, iat=issued_at, exp=issued_at + 900, **claims))


async def withdraw(server: Server, target: pb.WithdrawalTarget) -> None:
    """Close something; it is closed on this server when this returns."""
    request = pb.CreateWithdrawalRequest(target=target, justification="a drill")
    await _service(server).CreateWithdrawal(request, metadata=operator(server), timeout=LONG_SECONDS)


async def withdraw_elsewhere(server: Server, target: state.Target) -> None:
    """Close something as another replica does: through the store, from which this server learns of it."""
    id_ = str(uuid.uuid4())
    store = await state.open_store(f"sqlite:////{server.directory}/sluicegate-state.db", clock=server.clock)
    try:
        await store.withdraw(state.Withdrawal(id_, target, int(server.clock.now), "a drill", "another replica"))
    finally:
        await store.close()

    async def is_known() -> bool:
        return id_ in await _closed(server)

    await until(is_known)


async def lift_all(server: Server) -> None:
    """Open everything again."""
    for id_ in await _closed(server):
        request = pb.LiftWithdrawalRequest(id=id_, justification="the drill is over")
        await _service(server).LiftWithdrawal(request, metadata=operator(server), timeout=LONG_SECONDS)


async def _closed(server: Server) -> Sequence[str]:
    request = pb.ListWithdrawalsRequest()
    answer = await _service(server).ListWithdrawals(request, metadata=operator(server), timeout=LONG_SECONDS)
    return [entry.id for entry in answer.withdrawals]


def _service(server: Server) -> Any:
    return WithdrawalServiceStub(server.channel)


@asynccontextmanager
async def with_closed(server: Server, withdrawn: dict[str, Any], key_id: str) -> AsyncIterator[None]:
    """Close what a case of the decision table names, while the context is open. `key_id` is the table's key-1."""
    try:
        for kind, names in withdrawn.items():
            for name in names:
                await _withdraw_named(server, kind, key_id if name == "key-1" else name)
        yield
    finally:
        await lift_all(server)


async def _withdraw_named(server: Server, kind: str, name: Any) -> None:
    """What this server would not close by itself can only come from elsewhere: other policies' names, and no names."""
    now = int(server.clock.now)
    match kind, name:
        case "agreements", "agr-other":
            await withdraw_elsewhere(server, state.AgreementTarget(name))
        case "stages", name if name != "s1":  # the only one before the table's active stage
            await withdraw_elsewhere(server, state.StageTarget(name))
        case "tokens", "":
            await withdraw_elsewhere(server, state.TokenTarget(ISSUER, name, now + 3_600))
        case "clients", "":
            await withdraw_elsewhere(server, state.ClientTarget(ISSUER, name))
        case "subjects", "":
            await withdraw_elsewhere(server, state.SubjectTarget(ISSUER, name))
        case "keys", "":
            await withdraw_elsewhere(server, state.KeyTarget(ISSUER, name))
        case _:
            await withdraw(server, target_of(kind, name, now))


def target_of(kind: str, name: Any, now: int) -> pb.WithdrawalTarget:
    """The target of a name as the decision table writes it."""
    match kind:
        case "tokens":
            return pb.WithdrawalTarget(token=pb.TokenTarget(issuer=ISSUER, token_id=name))
        case "keys":
            return pb.WithdrawalTarget(key=pb.KeyTarget(issuer=ISSUER, key_id=name))
        case "clients":
            return pb.WithdrawalTarget(client=pb.ClientTarget(issuer=ISSUER, client_id=name))
        case "subjects":
            return pb.WithdrawalTarget(subject=pb.SubjectTarget(issuer=ISSUER, subject=name))
        case "issued_before":
            before = pb.IssuedBeforeTarget(
                issuer=ISSUER,
                time=Timestamp(seconds=now + name["seconds"]),
                client_id=name.get("client", ""),
                subject=name.get("subject", ""),
            )
            return pb.WithdrawalTarget(issued_before=before)
        case "agreements":
            return pb.WithdrawalTarget(agreement=name)
        case "models":
            return pb.WithdrawalTarget(model=name)
        case other:
            assert other == "stages"
            return pb.WithdrawalTarget(stage=name)
