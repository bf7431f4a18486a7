"""What of the state goes to disk at once: withdrawals do, the ledger and sketches within a second."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from issuer import FakeClock
from state_replicas import LAB

from sluicegate.auth import Quotas
from sluicegate.server.state import Wanted
from sluicegate.server.state.sqlite.backend import SqliteBackend
from sluicegate.server.state.sqlite.writer import Writer


class WatchedWriter(Writer):
    """A writer that remembers of each piece of work whether it was to be synced."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.synced: list[bool] = []

    async def do(self, work: Callable[[sqlite3.Connection], Any], *, synced: bool) -> Any:
        self.synced.append(synced)
        return await super().do(work, synced=synced)

    async def do_short(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        return await self.do(work, synced=False)


async def test_withdrawals_heads_and_the_salt_are_on_disk_when_they_are_answered_and_all_else_is_not(
    tmp_path: Path,
) -> None:
    writer = WatchedWriter(tmp_path / "state.db")
    backend = SqliteBackend(writer, await writer.open(), 30_000, FakeClock())

    await backend.withdraw("w-1", "{}", None)
    await backend.lift("w-1", "mark")
    await backend.anchor("gate-0", "log", "log:1:head")
    await backend.salt(b"s" * 32)
    changes, writer.synced = writer.synced, []
    await backend.reserve("r-1", LAB, Quotas(), Wanted(output_tokens=1))
    await backend.renew(LAB, {"r-1": 0})
    await backend.settle(LAB, "r-1", 1, 0)
    await backend.usage(LAB, Quotas())
    await backend.read(None)
    await backend.anchors()
    await backend.put_sketches("life-1", {"a": b"1"})
    await backend.sketches("life-2", 0)
    ledger = writer.synced
    await backend.close()

    assert changes == [True] * 4
    assert ledger == [False] * 8
