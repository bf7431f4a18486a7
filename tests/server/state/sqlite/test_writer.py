"""The writer thread: order, batches, and what one job's failure does to others."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from sluicegate.server.state import StateUnavailable, WithdrawalUnknown
from sluicegate.server.state.sqlite import writer as writer_module
from sluicegate.server.state.sqlite.writer import Writer

Insert = Callable[[sqlite3.Connection], None]


@pytest_asyncio.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    opened = Writer(tmp_path / "state.db")
    await opened.open()
    yield opened
    await opened.close()


@dataclass(slots=True)
class Hold:
    """Work that keeps the thread until it is released."""

    begun: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, connection: sqlite3.Connection) -> None:
        self.begun.set()
        self.released.wait()


def insert(mark: str) -> Insert:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO history (mark) VALUES (?)", (mark,))

    return work


def marks(connection: sqlite3.Connection) -> list[str]:
    return [mark for (mark,) in connection.execute("SELECT mark FROM history ORDER BY epoch")]


async def together(writer: Writer, *works: Callable[[sqlite3.Connection], object]) -> list[object]:
    """What comes of works that share one transaction: they queue up while the thread is held in another."""
    hold = Hold()
    holding = asyncio.create_task(writer.do(hold))
    await asyncio.to_thread(hold.begun.wait)
    doing = [asyncio.create_task(writer.do(work)) for work in works]
    await asyncio.sleep(0)
    hold.released.set()
    results: list[object] = list(await asyncio.gather(*doing, return_exceptions=True))
    await holding
    return results


async def test_work_is_done_in_order(writer: Writer) -> None:
    names = [str(number) for number in range(600)]  # more than one batch

    await together(writer, *map(insert, names))

    assert await writer.do(marks) == names


async def test_work_that_queued_up_shares_one_transaction(writer: Writer) -> None:
    statements: list[str] = []
    await writer.do(lambda connection: connection.set_trace_callback(statements.append))

    await together(writer, insert("a"), insert("b"), insert("c"))

    words = [statement.partition(" ")[0] for statement in statements]
    assert words[words.index("INSERT") - 1 :] == ["BEGIN", "INSERT", "INSERT", "INSERT", "COMMIT"]


async def test_refusal_by_one_job_does_not_undo_its_neighbours(writer: Writer) -> None:
    def refuse(connection: sqlite3.Connection) -> None:
        raise WithdrawalUnknown("nothing")

    first, refused, last = await together(writer, insert("a"), refuse, insert("b"))

    assert isinstance(refused, WithdrawalUnknown)
    assert (first, last) == (None, None)
    assert await writer.do(marks) == ["a", "b"]


async def test_failure_of_the_file_undoes_the_batch_and_tells_all_of_it(writer: Writer) -> None:
    results = await together(writer, insert("a"), insert("a"), insert("b"))

    assert [type(result) for result in results] == [StateUnavailable] * 3
    assert await writer.do(marks) == []


async def test_fault_of_ours_is_told_as_what_it_is(writer: Writer) -> None:
    def fault(connection: sqlite3.Connection) -> None:
        insert("half")(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await writer.do(fault)

    assert await writer.do(marks) == []


async def test_full_disk_is_unavailable_until_there_is_room(writer: Writer) -> None:
    def limit(pages: int) -> Callable[[sqlite3.Connection], None]:
        return lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").close()

    await writer.do(limit(1))
    with pytest.raises(StateUnavailable, match="full"):
        await writer.do(insert("x" * 100_000))

    await writer.do(limit(10_000))
    await writer.do(insert("y"))

    assert await writer.do(marks) == ["y"]


async def test_disk_that_hangs_is_unavailable(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "CALL_SECONDS", 0.01)
    hold = Hold()

    with pytest.raises(StateUnavailable, match="no answer"):
        await writer.do(hold)

    hold.released.set()


async def test_caller_who_leaves_keeps_no_answer_from_its_neighbours(writer: Writer) -> None:
    hold = Hold()
    holding = asyncio.create_task(writer.do(hold))
    await asyncio.to_thread(hold.begun.wait)
    leaving, staying = (asyncio.create_task(writer.do(insert(mark))) for mark in "ab")
    await asyncio.sleep(0)

    leaving.cancel()
    hold.released.set()
    await staying

    await holding
    assert leaving.cancelled()
    assert await writer.do(marks) == ["a", "b"]


def test_writer_outlives_an_event_loop_that_closes_before_its_answer(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "state.db")
    hold = Hold()

    async def leave() -> None:
        await writer.open()
        asyncio.create_task(writer.do(hold))  # noqa: RUF006  (it is cancelled with the loop)
        await asyncio.to_thread(hold.begun.wait)

    async def come_back() -> list[str]:
        found = await writer.do(marks)
        await writer.close()
        return found

    asyncio.run(leave())
    hold.released.set()

    assert asyncio.run(come_back()) == []


async def test_closing_carries_out_what_is_queued(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "state.db")
    await writer.open()
    doing = asyncio.create_task(writer.do(insert("a")))
    await asyncio.sleep(0)

    await writer.close()

    await doing
    assert marks(sqlite3.connect(tmp_path / "state.db")) == ["a"]


async def test_closed_writer_takes_no_more_work(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "state.db")
    await writer.open()
    await writer.close()

    with pytest.raises(StateUnavailable, match="closed"):
        await writer.do(marks)
