"""The one thread of this process that touches the state file.

**What survives what.** Every transaction survives the end of the process, `kill -9` too: the operating system has it
when its work is answered. To survive the end of the machine, a loss of power too, it has to be synced to disk, which
takes longer than all else. Work that asks for it (`synced`) is answered after that. Other work is synced within
SYNC_SECONDS: a machine that dies forgets at most so many seconds of it, and only the last ones, since a sync takes
along all that was committed before (https://www.sqlite.org/wal.html, section 2.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sluicegate.server.state.errors import StateError, StateUnavailable
from sluicegate.server.state.sqlite.schema import APPLICATION_ID, connect

CALL_SECONDS = 5.0
"""Longer than SQLite waits for the lock of another process; a disk that hangs longer counts as unavailable."""
LARGEST_BATCH = 256
SYNC_SECONDS = 1.0

_Result = TypeVar("_Result")
Work = Callable[[sqlite3.Connection], _Result]
"""Raises StateError only before it has written anything: such work does not undo what shares its transaction."""


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work[Any]
    future: asyncio.Future[Any]
    synced: bool


@dataclass(frozen=True, slots=True)
class _Failure:
    cause: BaseException


class Writer:
    """Runs work in order, in a thread of its own. What has queued up meanwhile shares one transaction and one sync."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._opened: Future[str] = Future()
        self._thread = threading.Thread(target=self._run, name="state-writer", daemon=True)
        self._closed = False
        self._sync_due: float | None = None  # by the monotonic clock; None while all is on disk

    async def open(self) -> str:
        """Start; the store's identity. Raises StoreUnsuitable or StateUnavailable."""
        self._thread.start()
        try:
            return await asyncio.shield(asyncio.wrap_future(self._opened))
        except asyncio.CancelledError:
            self._jobs.put(None)
            raise

    async def do(self, work: Work[_Result], *, synced: bool) -> _Result:
        """The result of work in a transaction that is committed; `synced`: and on disk.

        Raises StateUnavailable, and what `work` raises.
        """
        if self._closed:
            raise StateUnavailable("the state file is closed")
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(work, future, synced))
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await future
        except TimeoutError:
            raise StateUnavailable(f"{self._file}: no answer from the disk") from None

    async def close(self) -> None:
        """Carry out what is queued and close the file."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            connection, identity = connect(self._file)
        except BaseException as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(identity)
        try:
            while (batch := self._next_batch()) is not None:
                self._carry_out(connection, batch)
            self._sync(connection)
        finally:
            connection.close()

    def _next_batch(self) -> list[_Job] | None:
        """A job, and more if they are there; none if it is time to sync before one comes; None once it was closed."""
        batch: list[_Job] = []
        try:
            job = self._jobs.get(timeout=self._seconds_to_sync())
        except Empty:
            return batch
        while job is not None:
            batch.append(job)
            if len(batch) == LARGEST_BATCH:
                return batch
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return batch
        if not batch:
            return None
        self._jobs.put(None)  # the end comes again, after this batch
        return batch

    def _seconds_to_sync(self) -> float | None:
        return None if self._sync_due is None else max(0.0, self._sync_due - time.monotonic())

    def _carry_out(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        if self._seconds_to_sync() == 0:
            self._sync(connection)
        if not batch:
            return
        try:
            synced = any(job.synced for job in batch)
            connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            before = connection.total_changes
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [_outcome(job.work, connection) for job in batch]
            connection.execute("COMMIT")
            if connection.total_changes != before:
                self._has_written(synced=synced)
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                connection.execute("ROLLBACK")
            cause = StateUnavailable(f"{self._file}: {error}") if isinstance(error, sqlite3.Error) else error
            outcomes = [_Failure(cause)] * len(batch)
        _tell(batch, outcomes)

    def _has_written(self, *, synced: bool) -> None:
        if synced:
            self._sync_due = None
        elif self._sync_due is None:
            self._sync_due = time.monotonic() + SYNC_SECONDS

    def _sync(self, connection: sqlite3.Connection) -> None:
        """Write something, synced: what was committed before goes to disk with it. If that fails, try again later.

        The application's id is written even where it is the same already. A row is not, and SQLite syncs no commit that
        writes nothing.
        """
        if self._sync_due is None:
            return
        self._sync_due = time.monotonic() + SYNC_SECONDS
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._sync_due = None


def _outcome(work: Work[object], connection: sqlite3.Connection) -> object:
    try:
        return work(connection)
    except StateError as error:
        return _Failure(error)


def _tell(batch: list[_Job], outcomes: list[object]) -> None:
    """Hand the outcomes over to the event loop that waits for them, all at once: each wake costs it a system call."""
    with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
        batch[0].future.get_loop().call_soon_threadsafe(_set, batch, outcomes)


def _set(batch: list[_Job], outcomes: list[object]) -> None:
    """Event loop only. Who was cancelled, or waited too long, is not told."""
    for job, outcome in zip(batch, outcomes, strict=True):
        if job.future.done():
            continue
        if isinstance(outcome, _Failure):
            job.future.set_exception(outcome.cause)
        else:
            job.future.set_result(outcome)
