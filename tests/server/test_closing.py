"""What becomes of an operator's order whose operator leaves."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

from sluicegate.auth import anonymous
from sluicegate.server.closing import Closing
from sluicegate.server.state import ClientTarget, Withdrawal

WITHDRAWN = Withdrawal("w-1", ClientTarget("https://issuer.example", "app"), 0, "Misuse.", "operator of issuer")


async def test_a_lifting_that_stands_in_the_audit_log_is_carried_out_though_its_operator_leaves() -> None:
    done: list[str] = []
    asked, written, refreshed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def lifting(*_: Any) -> None:
        asked.set()
        await written.wait()
        done.append("audit log")

    async def lift(id_: str) -> None:
        done.append(id_)

    async def refresh() -> None:
        refreshed.set()

    store: Any = SimpleNamespace(lift=lift)
    watch: Any = SimpleNamespace(entries=[WITHDRAWN], refresh=refresh)
    gate: Any = None
    auditing: Any = SimpleNamespace(lifting=lifting)
    closing = Closing(store, watch, gate, None, auditing, issuers=())
    order = asyncio.create_task(closing.lift(anonymous(), "w-1", "Settled.", (), validate_only=False))
    await asked.wait()

    order.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await order
    written.set()
    async with asyncio.timeout(10):
        await refreshed.wait()

    assert done == ["audit log", "w-1"]
