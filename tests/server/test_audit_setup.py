"""A start on a state store that has forgotten withdrawals: the audit log remembers which its server went by."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from audit_logs import entries
from harness import (
    AUDIT,
    LONG_SECONDS,
    SMALL,
    Server,
    bearer,
    delete_state,
    refusal,
    serving,
    until,
)

from sluicegate.server.audit import Identity, WithdrawalsInForce, Withdrawn, read_key
from sluicegate.server.audit.journal import open_journal
from sluicegate.server.audit_setup import TRIAL
from sluicegate.server.state import ModelTarget, StoreUnsuitable, Withdrawal, open_store
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest
from sluicegate.v1.withdrawal_service_pb2 import CreateWithdrawalRequest, WithdrawalTarget
from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceStub

CALLER = bearer()
OPERATOR = bearer(sub="olga", client_id="operations", scope="release:withdraw")
STATE = "sluicegate-state.db"


def generate(server: Server) -> Any:
    request = GenerateRequest(model=SMALL, text="a", config=GenerationConfig(max_output_tokens=1))
    return server.generation.Generate(request, metadata=CALLER, timeout=LONG_SECONDS)


async def close_model(server: Server) -> None:
    service: Any = WithdrawalServiceStub(server.channel)
    asked = CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification="Misuse.")
    await service.CreateWithdrawal(asked, metadata=OPERATOR, timeout=LONG_SECONDS)


async def goes_by(server: Server, change: int) -> None:
    """Wait until the log says that its replica goes by this change of the withdrawals."""

    async def does() -> bool:
        told = [each for each in entries(server.directory / AUDIT["directory"]) if isinstance(each, WithdrawalsInForce)]
        return bool(told) and told[-1].change == change

    await until(does)


def copied_state(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.glob(f"{STATE}*")}


def restore(directory: Path, copy: dict[Path, bytes]) -> None:
    delete_state(directory)
    for path, content in copy.items():
        path.write_bytes(content)


async def test_an_older_copy_of_the_store_that_has_forgotten_a_withdrawal_stops_the_start(tmp_path: Path) -> None:
    async with serving(tmp_path):
        pass
    older = copied_state(tmp_path)
    async with serving(tmp_path) as server:
        await close_model(server)
        await goes_by(server, 1)
    restore(tmp_path, older)

    for _ in range(2):
        with pytest.raises(StoreUnsuitable, match=r"went by change 1 of the withdrawals.*`--new-state` once"):
            async with serving(tmp_path):
                pass


async def test_an_operator_who_says_that_the_store_is_new_says_it_once(tmp_path: Path) -> None:
    async with serving(tmp_path):
        pass
    older = copied_state(tmp_path)
    async with serving(tmp_path) as server:
        await close_model(server)
        await goes_by(server, 1)
    restore(tmp_path, older)

    async with serving(tmp_path, state={"is_new": True}) as server:
        await goes_by(server, 0)

    async with serving(tmp_path) as server:
        await generate(server)


async def test_a_replica_remembers_what_was_withdrawn_at_another_one(tmp_path: Path) -> None:
    shared = {"url": f"sqlite:////{tmp_path}/{STATE}"}
    one = partial(serving, tmp_path / "one", state=shared)
    other = partial(serving, tmp_path / "other", state=shared, audit={**AUDIT, "replica": "gate-1"})
    async with one(), other():
        pass
    older = copied_state(tmp_path)
    async with one() as bystander, other() as asked:
        await close_model(asked)
        await goes_by(bystander, 1)
    restore(tmp_path, older)

    with pytest.raises(StoreUnsuitable, match="went by change 1"):
        async with one():
            pass


async def test_an_older_copy_that_has_grown_by_another_withdrawal_is_told_from_the_store(tmp_path: Path) -> None:
    async with serving(tmp_path):
        pass
    older = copied_state(tmp_path)
    async with serving(tmp_path) as server:
        await close_model(server)
        await goes_by(server, 1)
    restore(tmp_path, older)
    await withdraw_in_store(tmp_path, "gpt2-355m")

    with pytest.raises(StoreUnsuitable, match="went by change 1"):
        async with serving(tmp_path):
            pass


async def test_a_copy_of_the_store_that_has_forgotten_no_withdrawal_is_gone_on_with(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await close_model(server)
        await goes_by(server, 1)
    older = copied_state(tmp_path)
    async with serving(tmp_path) as server:
        await refusal(generate(server))
    restore(tmp_path, older)

    async with serving(tmp_path) as server:
        assert (await refusal(generate(server))).reason == "MODEL_WITHDRAWN"


async def test_a_crash_between_the_order_and_the_store_stops_no_start(tmp_path: Path) -> None:
    async with serving(tmp_path):
        pass
    ordered = Withdrawn(id="w-1", justification="Misuse.", withdrawal="model", target=SMALL, by=("a" * 32,))
    key = read_key(tmp_path / AUDIT["key"])
    with open_journal(tmp_path / AUDIT["directory"], Identity(TRIAL, AUDIT["replica"]), key) as journal:
        journal.commit([ordered])

    async with serving(tmp_path) as server:
        await generate(server)


async def test_a_crash_between_the_store_and_the_log_stops_no_start(tmp_path: Path) -> None:
    async with serving(tmp_path):
        pass
    await withdraw_in_store(tmp_path, SMALL)

    async with serving(tmp_path) as server:
        assert (await refusal(generate(server))).reason == "MODEL_WITHDRAWN"
        await goes_by(server, 1)


async def withdraw_in_store(directory: Path, model: str) -> None:
    """What is left of a server that was killed before its log had heard of it."""
    store = await open_store(f"sqlite:////{directory}/{STATE}")
    await store.withdraw(Withdrawal("w-1", ModelTarget(model), 1_770_000_000, "Misuse.", "olga"))
    await store.close()
