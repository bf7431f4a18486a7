from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import cast

import pytest

from sluicegate.server.anchoring import Anchoring
from sluicegate.server.audit import Head
from sluicegate.server.errors import SettingsError
from sluicegate.server.state import StateUnavailable, Store

FIRST, SECOND = (Head("a" * 32, entry, "b" * 64) for entry in (1, 2))


class FakeStore:
    """Keeps heads, unless it is down. `asked` counts what it was asked to keep."""

    def __init__(self, heads: dict[str, str] | None = None) -> None:
        self.heads = heads or {}
        self.is_down = False
        self.asked = 0
        self.begun = asyncio.Event()

    async def anchors(self) -> dict[str, str]:
        return self.heads

    async def anchor(self, replica: str, log: str, head: str) -> bool:
        self.asked += 1
        self.begun.set()
        if self.is_down:
            raise StateUnavailable("down")
        await asyncio.sleep(0)
        self.heads[replica] = head
        return True


class Tried:
    """A sleep that ends when a test says so; each one begun is a try that failed."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, _seconds: float) -> None:
        self.begun.set()
        await self.over.wait()


def anchoring(store: FakeStore, sleep: Tried | None = None) -> Anchoring:
    return Anchoring(cast(Store, store), "gate-0", sleep=sleep or Tried())


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_head_of_an_earlier_start_is_found_by_the_replicas_name() -> None:
    store = FakeStore({"gate-0": str(FIRST), "gate-1": str(SECOND)})

    assert await anchoring(store).kept() == (FIRST, (FIRST, SECOND))
    assert await anchoring(FakeStore()).kept() == (None, ())


async def test_a_head_that_is_none_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="gate-0"):
        await anchoring(FakeStore({"gate-0": "nonsense"})).kept()


async def test_what_comes_last_is_kept_when_the_server_stops() -> None:
    store = FakeStore()
    keeper = anchoring(store)
    task = asyncio.create_task(keeper.run())
    await asyncio.sleep(0)

    keeper.keep(FIRST)
    keeper.keep(SECOND)
    await stopped(task)

    assert (store.heads, store.asked) == ({"gate-0": str(SECOND)}, 1)


async def test_a_store_that_is_down_is_tried_again_with_what_is_newest_then() -> None:
    store, sleep = FakeStore(), Tried()
    store.is_down = True
    keeper = anchoring(store, sleep)
    task = asyncio.create_task(keeper.run())
    keeper.keep(FIRST)
    await sleep.begun.wait()

    keeper.keep(SECOND)
    store.is_down = False
    sleep.over.set()
    await stopped(task)

    assert store.heads == {"gate-0": str(SECOND)}


async def test_a_head_whose_keeping_is_cut_off_by_the_stop_is_kept_all_the_same() -> None:
    store = FakeStore()
    keeper = anchoring(store)
    task = asyncio.create_task(keeper.run())
    keeper.keep(FIRST)
    await store.begun.wait()

    await stopped(task)

    assert store.heads == {"gate-0": str(FIRST)}
