"""How this process touches the state file: in a thread, and where nothing has to wait, here and now.

**What survives what.** Every transaction survives the end of the process, `kill -9` too: the operating system has it
when its work is answered. To survive the end of the machine, a loss of power too, it has to be synced to disk, which
takes longer than all else. Work that asks for it (`synced`) is answered after that. Other work is synced within
SYNC_SECONDS: a machine that dies forgets at most so many seconds of it, and only the last ones, since a sync takes
along all that was committed before (https://www.sqlite.org/wal.html, section 2.2).

**Who does it.** The thread, in order, and many at once; it alone waits: for the disk, and for other processes. A short
transaction that is not synced waits for neither, and takes less time than it takes to wake the thread. So if the thread
is idle and nobody has the file locked, it is carried out in the event loop, on a connection of its own that never syncs
and never waits; otherwise it goes to the thread like all else. A disk that hangs stops the thread in its next sync,
which holds the lock, so that from then on nothing is done here.
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

from sluicegate.server.state.errors import HistoryLost, StateError, StateUnavailable
from sluicegate.server.state.sqlite.schema import APPLICATION_ID, connect, connect_impatient

CALL_SECONDS = 5.0
"""Longer than SQLite waits for the lock of another process; a disk that hangs longer counts as unavailable."""
LARGEST_BATCH = 256
SYNC_SECONDS = 1.0
CHECKPOINT_BYTES = 4 << 20
"""Of the write-ahead log; SQLite's own default, 1,000 pages."""

_Result = TypeVar("_Result")
Work = Callable[[sqlite3.Connection], _Result]
"""Raises StateError only before it has written anything: such work does not undo what shares its transaction."""


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work[Any]
    future: asyncio.Future[Any]
    synced: bool


class _Written:
    """Tells the thread that something was committed which is not synced."""


_WRITTEN = _Written()


@dataclass(frozen=True, slots=True)
class _Failure:
    cause: BaseException


class Writer:
    """Runs work in order, in a thread of its own. What has queued up meanwhile shares one transaction and one sync."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._jobs: SimpleQueue[_Job | _Written | None] = SimpleQueue()
        self._opened: Future[str] = Future()
        self._thread = threading.Thread(target=self._run, name="state-writer", daemon=True)
        self._closed = False
        self._own: sqlite3.Connection | None = None  # the event loop's
        self._place: tuple[int, int] | None = None
        self._waiting = 0  # jobs that the thread has not answered; the event loop's
        self._sync_due: float | None = None  # by the monotonic clock; None while all is on disk

    async def open(self) -> str:
        """Start; the store's identity. Raises StoreUnsuitable or StateUnavailable."""
        self._thread.start()
        try:
            identity = await asyncio.shield(asyncio.wrap_future(self._opened))
        except asyncio.CancelledError:
            self._jobs.put(None)
            raise
        self._own = connect_impatient(self._file)
        self._place = _place_of(self._file)
        return identity

    def check_place(self) -> None:
        """Raise HistoryLost if the file was deleted or replaced: SQLite would go on with what nobody else sees."""
        if _place_of(self._file) != self._place:
            raise HistoryLost(f"{self._file}: was deleted or replaced while it was open")

    async def do_short(self, work: Work[_Result]) -> _Result:
        """The result of work that is short and need not be synced; in the event loop, unless it would wait there.

        Raises as `do` does.
        """
        own = self._own
        if own is None or self._closed or self._waiting or not _has_begun(own):
            return await self.do(work, synced=False)
        before = own.total_changes
        try:
            outcome = work(own)
            own.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                own.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StateUnavailable(f"{self._file}: {error}") from error
            raise
        if own.total_changes != before and self._sync_due is None:
            self._jobs.put(_WRITTEN)
        return outcome

    async def do(self, work: Work[_Result], *, synced: bool) -> _Result:
        """The result of work in a transaction that is committed; `synced`: and on disk.

        Raises StateUnavailable, and what `work` raises.
        """
        if self._closed:
            raise StateUnavailable("the state file is closed")
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting += 1
        self._jobs.put(_Job(work, future, synced))
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await future
        except TimeoutError:
            raise StateUnavailable(f"{self._file}: no answer from the disk") from None

    async def close(self) -> None:
        """Carry out what is queued and close the file."""
        self._closed = True
        if self._own is not None:
            self._own.close()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            connection, identity = connect(self._file)
        except BaseException as error:
            self._opened.set_exception(error)
            return
        self._sync_due = 0.0
        self._sync(connection)  # the first write into an empty log syncs its header: not in the event loop
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
            if isinstance(job, _Job):
                batch.append(job)
            else:
                self._has_written(synced=False)
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
                self._has_written(synced=synced and self._log_bytes() <= CHECKPOINT_BYTES)
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                connection.execute("ROLLBACK")
            cause = StateUnavailable(f"{self._file}: {error}") if isinstance(error, sqlite3.Error) else error
            outcomes = [_Failure(cause)] * len(batch)
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            # All outcomes at once: each wake of the loop costs it a system call.
            batch[0].future.get_loop().call_soon_threadsafe(self._tell, batch, outcomes)

    def _tell(self, batch: list[_Job], outcomes: list[object]) -> None:
        """Event loop only. Who was cancelled, or waited too long, is not told."""
        self._waiting -= len(batch)
        for job, outcome in zip(batch, outcomes, strict=True):
            if job.future.done():
                continue
            if isinstance(outcome, _Failure):
                job.future.set_exception(outcome.cause)
            else:
                job.future.set_result(outcome)

    def _has_written(self, *, synced: bool) -> None:
        if synced:
            self._sync_due = None
        elif self._sync_due is None:
            self._sync_due = time.monotonic() + SYNC_SECONDS

    def _log_bytes(self) -> int:
        try:
            return self._file.with_name(f"{self._file.name}-wal").stat().st_size
        except OSError:
            return 0

    def _sync(self, connection: sqlite3.Connection) -> None:
        """Write something, synced: what was committed before goes to disk with it. If that fails, try again later.

        The application's id is written even where it is the same already. A row is not, and SQLite syncs no commit that
        writes nothing.
        """
        if self._sync_due is None:
            return
        self._sync_due = None  # before the sync: what is written after it is not taken along
        try:
            connection.execute("PRAGMA synchronous = FULL")
            if self._log_bytes() > CHECKPOINT_BYTES:  # then the write below begins the log anew, and syncs its header
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        except sqlite3.Error:
            self._sync_due = time.monotonic() + SYNC_SECONDS


def _place_of(file: Path) -> tuple[int, int] | None:
    """What tells a file from another of its name; None without one."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _has_begun(connection: sqlite3.Connection) -> bool:
    """Whether a transaction could be begun without waiting for another's."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


def _outcome(work: Work[object], connection: sqlite3.Connection) -> object:
    try:
        return work(connection)
    except StateError as error:
        return _Failure(error)
