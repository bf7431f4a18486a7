"""State files: who may read them, which are refused, and what several processes do to one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
from state_replicas import LAB, reserved, used

from sluicegate.auth import Quotas
from sluicegate.server.state import (
    HistoryLost,
    ModelTarget,
    Quota,
    StateUnavailable,
    StoreUnsuitable,
    Wanted,
    Withdrawal,
    open_store,
)
from sluicegate.server.state.sqlite import schema

BY_DAY = Quotas(output_tokens_per_day=100)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


FINDINGS = ("findings", "finding_lists", "finding_requests")
"""The tables since schema 4."""


def url(file: Path) -> str:
    return f"sqlite:///{file}"


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)


def withdrawal(name: str) -> Withdrawal:
    return Withdrawal(name, ModelTarget("gpt2-1558m"), 1_770_000_000, "Misuse.", "operator-1")


@pytest.mark.parametrize("mode_before", [None, 0o644, 0o666])
async def test_state_file_and_its_companions_are_private(file: Path, mode_before: int | None) -> None:
    if mode_before is not None:
        os.close(os.open(file, os.O_CREAT))
        os.chmod(file, mode_before)  # noqa: PTH101  (pathlib counts as blocking)

    store = await open_store(url(file))
    await store.withdraw(withdrawal("w"))

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    await store.close()
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


async def test_every_commit_is_synced_to_disk(file: Path) -> None:
    connection, _ = schema.connect(file)

    with closing(connection):
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_file_of_a_newer_release_is_refused(file: Path) -> None:
    await (await open_store(url(file))).close()
    change(file, "PRAGMA user_version = 5")

    with pytest.raises(StoreUnsuitable, match="schema 5 of a newer release; this one knows up to 4"):
        await open_store(url(file))


@pytest.mark.parametrize(
    ("schema_of_then", "made_since"),
    [(1, ("anchors", "salt", "sketches", *FINDINGS)), (2, ("salt", "sketches", *FINDINGS)), (3, FINDINGS)],
)
async def test_file_of_an_older_release_is_taken_over_with_what_is_in_it(
    file: Path, schema_of_then: int, made_since: tuple[str, ...]
) -> None:
    store = await open_store(url(file))
    await store.withdraw(withdrawal("w"))
    await store.close()
    for table in made_since:
        change(file, f"DROP TABLE {table}")
    change(file, f"PRAGMA user_version = {schema_of_then}")

    store = await open_store(url(file))

    await store.anchor("gate-0", "a", "a:1:x")
    await store.put_sketches("life-1", {"example-lab": b"sketch"})
    assert await store.findings("all") == ()
    assert [entry.id for entry in (await store.entries()).entries] == ["w"]
    assert [each.data for each in (await store.sketches("life-2")).sketches] == [b"sketch"]
    assert await store.salt() == await store.salt()
    await store.close()


async def test_sqlite_file_of_another_program_is_refused_and_left_alone(file: Path) -> None:
    change(file, "CREATE TABLE songs (title TEXT)")

    with pytest.raises(StoreUnsuitable, match="another program"):
        await open_store(url(file))

    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("songs",)]


async def test_file_that_is_not_sqlite_is_refused(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "state.db")

    with pytest.raises(StoreUnsuitable, match="not a state file"):
        await open_store(url(tmp_path / "state.db"))


async def test_directory_that_is_missing_is_named(file: Path) -> None:
    with pytest.raises(StoreUnsuitable, match=r"missing/state\.db: cannot be made: No such file or directory"):
        await open_store(url(file.parent / "missing/state.db"))


async def test_directory_is_no_state_file_and_keeps_its_mode(tmp_path: Path) -> None:
    before = os.stat(tmp_path).st_mode  # noqa: PTH116  (pathlib counts as blocking)

    with pytest.raises(StoreUnsuitable, match="not a file"):
        await open_store(url(tmp_path))

    assert os.stat(tmp_path).st_mode == before  # noqa: PTH116


async def test_opening_does_not_drop_the_locks_that_this_process_holds(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.01)
    await (await open_store(url(file))).close()

    with closing(sqlite3.connect(file, isolation_level=None)) as writing:
        writing.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable):
            await open_store(url(file))
        program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, file, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await other.communicate()

    assert "database is locked" in errors.decode()


async def test_file_that_another_process_keeps_locked_is_unavailable(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.01)
    store = await open_store(url(file))

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match="locked"):
            await store.reserve(LAB, BY_DAY, Wanted(output_tokens=1))
        with pytest.raises(StateUnavailable, match="locked"):
            await open_store(url(file))

    await reserved(store, BY_DAY, Wanted(output_tokens=1))
    await store.close()


async def test_event_loop_goes_on_while_the_file_is_locked(file: Path) -> None:
    store = await open_store(url(file))

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        reserving = asyncio.create_task(reserved(store, BY_DAY, Wanted(output_tokens=1)))
        for _ in range(100):
            await asyncio.sleep(0)
        waited = not reserving.done()
        other.execute("ROLLBACK")

    assert waited
    assert (await reserving).output_tokens == 1
    await store.close()


async def test_many_may_make_the_file_at_the_same_time(file: Path) -> None:
    stores = await asyncio.gather(*(open_store(url(file)) for _ in range(5)))

    versions = [(await store.entries()).version for store in stores]

    for store in stores:
        await store.close()
    assert len(set(versions)) == 1


async def test_file_put_back_from_an_old_copy_is_noticed_even_after_it_has_grown(file: Path) -> None:
    store = await open_store(url(file))
    await store.withdraw(withdrawal("kept"))
    await store.close()
    shutil.copy(file, file.with_suffix(".copy"))
    store = await open_store(url(file))
    await store.withdraw(withdrawal("forgotten"))
    seen = (await store.entries()).version
    await store.close()

    shutil.copy(file.with_suffix(".copy"), file)
    store = await open_store(url(file))
    with pytest.raises(HistoryLost):
        await store.changes(seen)
    await store.withdraw(withdrawal("another"))
    with pytest.raises(HistoryLost):
        await store.changes(seen)

    await store.close()


async def test_books_of_long_ago_are_forgotten_and_running_ones_are_not(file: Path) -> None:
    now = [1_770_000_000.0]
    store = await open_store(url(file), clock=lambda: now[0])
    for number in range(5):
        await reserved(store, BY_DAY, Wanted(output_tokens=5), by=type(LAB)(f"public/{number}", LAB.zone))

    now[0] += 86_400
    kept = await reserved(store, BY_DAY, Wanted(output_tokens=7))
    with closing(sqlite3.connect(file)) as connection:
        after_a_day = connection.execute("SELECT count(*) FROM accounts").fetchone()
    now[0] += 3 * 86_400
    await store.settle(await reserved(store, BY_DAY, Wanted(output_tokens=9)), emitted=9)

    with closing(sqlite3.connect(file)) as connection:
        accounts = connection.execute("SELECT key FROM accounts").fetchall()
        leases = connection.execute("SELECT count(*) FROM leases").fetchone()
    assert kept.account == LAB
    assert after_a_day == (6,)
    assert (accounts, leases) == ([(LAB.key,)], (0,))
    assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 9}
    await store.close()
