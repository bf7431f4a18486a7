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
from sluicegate.server.state.sqlite.schema import APPLICATION_ID
from sluicegate.server.state.sqlite.writer import Writer

FULL, NORMAL = "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"
SYNC = f"PRAGMA application_id = {APPLICATION_ID}"
WAIT_SECONDS = 20.0

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


async def traced(writer: Writer) -> list[str]:
    """A list that gets every statement from now on."""
    statements: list[str] = []
    await writer.do(lambda connection: connection.set_trace_callback(statements.append), synced=False)
    return statements


async def together(writer: Writer, *works: Callable[[sqlite3.Connection], object]) -> list[object]:
    """What comes of works that share one transaction: they queue up while the thread is held in another."""
    hold = Hold()
    holding = asyncio.create_task(writer.do(hold, synced=False))
    await asyncio.to_thread(hold.begun.wait)
    doing = [asyncio.create_task(writer.do(work, synced=False)) for work in works]
    await asyncio.sleep(0)
    hold.released.set()
    results: list[object] = list(await asyncio.gather(*doing, return_exceptions=True))
    await holding
    return results


async def test_work_is_done_in_order(writer: Writer) -> None:
    names = [str(number) for number in range(600)]  # more than one batch

    await together(writer, *map(insert, names))

    assert await writer.do(marks, synced=False) == names


async def test_work_that_queued_up_shares_one_transaction(writer: Writer) -> None:
    statements = await traced(writer)

    await together(writer, insert("a"), insert("b"), insert("c"))

    words = [statement.partition(" ")[0] for statement in statements]
    assert words[words.index("INSERT") - 1 :] == ["BEGIN", "INSERT", "INSERT", "INSERT", "COMMIT"]


async def test_refusal_by_one_job_does_not_undo_its_neighbours(writer: Writer) -> None:
    def refuse(connection: sqlite3.Connection) -> None:
        raise WithdrawalUnknown("nothing")

    first, refused, last = await together(writer, insert("a"), refuse, insert("b"))

    assert isinstance(refused, WithdrawalUnknown)
    assert (first, last) == (None, None)
    assert await writer.do(marks, synced=False) == ["a", "b"]


async def test_failure_of_the_file_undoes_the_batch_and_tells_all_of_it(writer: Writer) -> None:
    results = await together(writer, insert("a"), insert("a"), insert("b"))

    assert [type(result) for result in results] == [StateUnavailable] * 3
    assert await writer.do(marks, synced=False) == []


async def test_fault_of_ours_is_told_as_what_it_is(writer: Writer) -> None:
    def fault(connection: sqlite3.Connection) -> None:
        insert("half")(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await writer.do(fault, synced=False)

    assert await writer.do(marks, synced=False) == []


async def test_full_disk_is_unavailable_until_there_is_room(writer: Writer) -> None:
    def limit(pages: int) -> Callable[[sqlite3.Connection], None]:
        return lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").close()

    await writer.do(limit(1), synced=False)
    with pytest.raises(StateUnavailable, match="full"):
        await writer.do(insert("x" * 100_000), synced=False)

    await writer.do(limit(10_000), synced=False)
    await writer.do(insert("y"), synced=False)

    assert await writer.do(marks, synced=False) == ["y"]


async def test_disk_that_hangs_is_unavailable(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "CALL_SECONDS", 0.01)
    hold = Hold()

    with pytest.raises(StateUnavailable, match="no answer"):
        await writer.do(hold, synced=False)

    hold.released.set()


@pytest.mark.parametrize(("synced", "mode"), [(True, FULL), (False, NORMAL)])
async def test_transaction_is_synced_where_its_work_asks_for_it(writer: Writer, synced: bool, mode: str) -> None:
    statements = await traced(writer)

    await writer.do(insert("a"), synced=synced)

    assert [statement.partition(" (")[0] for statement in statements[1:]] == [
        mode,
        "BEGIN IMMEDIATE",
        "INSERT INTO history",
        "COMMIT",
    ]


async def test_what_was_written_is_synced_in_time_though_nothing_follows(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "SYNC_SECONDS", 0.01)
    statements, synced = [], threading.Event()

    def trace(statement: str) -> None:
        statements.append(statement)
        if statement == SYNC:
            synced.set()

    await writer.do(lambda connection: connection.set_trace_callback(trace), synced=False)
    await writer.do(insert("a"), synced=False)

    assert await asyncio.to_thread(synced.wait, WAIT_SECONDS)
    assert statements[-2:] == [FULL, SYNC]


async def test_what_was_written_is_synced_in_time_though_work_keeps_coming(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "SYNC_SECONDS", 0)
    statements = await traced(writer)

    await together(writer, insert("a"))
    await together(writer, insert("b"))

    first, second = (index for index, statement in enumerate(statements) if statement.startswith("INSERT"))
    assert SYNC in statements[first:second]


async def test_closing_syncs_what_was_written(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "state.db")
    await writer.open()
    statements = await traced(writer)
    await writer.do(insert("a"), synced=False)

    await writer.close()

    assert statements[-2:] == [FULL, SYNC]


@pytest.mark.parametrize("last", [insert("a"), marks], ids=["synced", "read"])
async def test_what_is_on_disk_is_not_synced_again(
    tmp_path: Path, last: Callable[[sqlite3.Connection], object]
) -> None:
    writer = Writer(tmp_path / "state.db")
    await writer.open()
    statements = await traced(writer)
    await writer.do(last, synced=last is not marks)

    await writer.close()

    assert SYNC not in statements


async def test_one_write_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "SYNC_SECONDS", 0)
    writer = Writer(tmp_path / "state.db")
    await writer.open()
    statements = await traced(writer)

    await writer.do(insert("a"), synced=False)
    await writer.do(marks, synced=False)
    await writer.close()

    assert statements.count(SYNC) == 1


async def test_sync_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "SYNC_SECONDS", 0.01)
    monkeypatch.setattr(writer_module, "APPLICATION_ID", "'not a number")  # a syntax error, as good as any other
    writer = Writer(tmp_path / "state.db")
    await writer.open()
    statements, tried = [], threading.Event()

    def trace(statement: str) -> None:
        statements.append(statement)
        if statements.count(FULL) == 2:
            tried.set()

    await writer.do(lambda connection: connection.set_trace_callback(trace), synced=False)
    await writer.do(insert("a"), synced=False)
    assert await asyncio.to_thread(tried.wait, WAIT_SECONDS)
    monkeypatch.undo()
    await writer.close()

    assert statements[-1] == SYNC


async def test_caller_who_leaves_keeps_no_answer_from_its_neighbours(writer: Writer) -> None:
    hold = Hold()
    holding = asyncio.create_task(writer.do(hold, synced=False))
    await asyncio.to_thread(hold.begun.wait)
    leaving, staying = (asyncio.create_task(writer.do(insert(mark), synced=False)) for mark in "ab")
    await asyncio.sleep(0)

    leaving.cancel()
    hold.released.set()
    await staying

    await holding
    assert leaving.cancelled()
    assert await writer.do(marks, synced=False) == ["a", "b"]


def test_writer_outlives_an_event_loop_that_closes_before_its_answer(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "state.db")
    hold = Hold()

    async def leave() -> None:
        await writer.open()
        asyncio.create_task(writer.do(hold, synced=False))  # noqa: RUF006  (it is cancelled with the loop)
        await asyncio.to_thread(hold.begun.wait)

    async def come_back() -> list[str]:
        found = await writer.do(marks, synced=False)
        await writer.close()
        return found

    asyncio.run(leave())
    hold.released.set()

    assert asyncio.run(come_back()) == []


async def test_closing_carries_out_what_is_queued(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "state.db")
    await writer.open()
    doing = asyncio.create_task(writer.do(insert("a"), synced=False))
    await asyncio.sleep(0)

    await writer.close()

    await doing
    assert marks(sqlite3.connect(tmp_path / "state.db")) == ["a"]


async def test_closed_writer_takes_no_more_work(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "state.db")
    await writer.open()
    await writer.close()

    with pytest.raises(StateUnavailable, match="closed"):
        await writer.do(marks, synced=False)


# --- short work, in the event loop


def thread_of(connection: sqlite3.Connection) -> int:
    return threading.get_ident()


async def test_short_work_is_done_here_while_nothing_else_is(writer: Writer) -> None:
    await writer.do_short(insert("a"))

    assert await writer.do_short(thread_of) == threading.get_ident()
    assert await writer.do(marks, synced=False) == ["a"]


async def test_short_work_waits_its_turn_behind_the_threads(writer: Writer) -> None:
    hold = Hold()
    holding = asyncio.create_task(writer.do(hold, synced=False))
    await asyncio.to_thread(hold.begun.wait)

    here = asyncio.create_task(writer.do_short(thread_of))
    await asyncio.sleep(0)
    hold.released.set()

    assert await here != threading.get_ident()
    await holding


async def test_short_work_leaves_the_wait_for_another_process_to_the_thread(writer: Writer, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    waiting = asyncio.create_task(writer.do_short(thread_of))
    await asyncio.sleep(0)
    was_done = waiting.done()
    other.execute("COMMIT")
    other.close()

    assert (was_done, await waiting != threading.get_ident()) == (False, True)


async def test_short_work_that_fails_leaves_nothing_and_is_told_as_what_it_is(writer: Writer) -> None:
    def fault(connection: sqlite3.Connection) -> None:
        insert("half")(connection)
        raise ZeroDivisionError

    await writer.do_short(insert("a"))

    with pytest.raises(ZeroDivisionError):
        await writer.do_short(fault)
    with pytest.raises(StateUnavailable):
        await writer.do_short(insert("a"))  # the mark is there already
    assert await writer.do_short(marks) == ["a"]


async def test_short_work_never_syncs_here_and_is_synced_in_time_by_the_thread(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "SYNC_SECONDS", 0.01)
    synced = threading.Event()

    def trace(statement: str) -> None:
        if statement == SYNC:
            synced.set()

    await writer.do(lambda connection: connection.set_trace_callback(trace), synced=False)

    def mode(connection: sqlite3.Connection) -> tuple[int, int]:
        insert("a")(connection)
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        (checkpoint,) = connection.execute("PRAGMA wal_autocheckpoint").fetchone()
        return synchronous, checkpoint

    assert await writer.do_short(mode) == (1, 0)  # NORMAL; none
    assert await asyncio.to_thread(synced.wait, WAIT_SECONDS)


async def test_closing_syncs_short_work_too(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "state.db")
    await writer.open()
    statements = await traced(writer)
    await writer.do_short(insert("a"))

    await writer.close()

    assert statements[-2:] == [FULL, SYNC]
    with pytest.raises(StateUnavailable, match="closed"):
        await writer.do_short(marks)
