"""The thread that writes the log: it takes all that is queued and writes it with one sync (group commit)."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from sluicegate.auth import Reason
from sluicegate.server.audit.chain import Head
from sluicegate.server.audit.denials import DenialCounter
from sluicegate.server.audit.entries import Entry, Opening, Outage
from sluicegate.server.audit.errors import AuditUnavailable, Cause, cause_of
from sluicegate.server.audit.form import time_text
from sluicegate.server.audit.journal import DEFAULT_FILE_BYTES, Clock, Journal

BATCH_ENTRIES = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """How the log is kept. A checkpoint also comes after every 1,000 entries."""

    checkpoint_seconds: float = 60.0
    patience_seconds: float = 5.0
    """How long a call waits for its opening before it is refused."""
    retry_seconds: float = 1.0
    """Between two tries to write after one failed."""
    queue_entries: int = 5000
    """Waiting for the disk; a call that finds more is refused."""
    file_bytes: int = DEFAULT_FILE_BYTES


@dataclass(slots=True, eq=False)
class Ticket:
    """An entry on its way to the disk."""

    entry: Entry
    waiter: asyncio.Future[None] | None = None
    """Of the event loop; the thread only passes it on."""
    is_kept: bool = True
    """Without a waiter: keep it until it can be written. Otherwise it is dropped, and counted, if it cannot be now."""
    is_abandoned: bool = False
    """Nobody waits any more: it need not be written, unless `on_late` is to hear that it was."""
    undone_as: tuple[str, Reason | None] = ("CANCELLED", None)
    """Code and reason of the end that an opening gets which was written for nobody."""
    on_late: Callable[[], None] | None = None
    """Of the event loop: an opening that nobody waited for any more was written all the same, and is open."""

    @property
    def is_wanted(self) -> bool:
        return not self.is_abandoned or self.on_late is not None

    @property
    def is_lost_on_failure(self) -> bool:
        return self.waiter is not None or not self.is_kept


class Told(Protocol):
    """Who is told what happens. Called by the thread."""

    def settled(self, tickets: Sequence[Ticket], cause: Cause | None) -> None:
        """These, which were waited for, are durable, or are not for this cause and never will be."""

    def failed(self, cause: Cause) -> None:
        """A write failed."""

    def signed(self, head: Head) -> None:
        """A checkpoint is durable."""


@dataclass(slots=True)
class _Failure:
    cause: Cause
    since: float
    openings_lost: int


class Writer:
    """Owns the journal. Its methods may be called from any thread."""

    def __init__(self, journal: Journal, opened: ExitStack, limits: Limits, clock: Clock, told: Told) -> None:
        """`opened` closes the journal; the thread does that as its last act. `start` it."""
        self._journal = journal
        self._opened = opened
        self._limits = limits
        self._clock = clock
        self._told = told
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
        lock = threading.RLock()
        self._changed, self._rested = threading.Condition(lock), threading.Condition(lock)
        # Under their lock:
        self._is_resting = False
        self._queue: deque[Ticket] = deque()
        self._denials = DenialCounter()
        self._failure: _Failure | None = None
        self._is_stopping = False
        self._writing_since: float | None = None
        # The thread's own:
        self._unwritten: list[Ticket] = []
        self._retry_at = 0.0
        self._told_head: Head | None = None

    def start(self) -> None:
        self._thread.start()

    def put(self, ticket: Ticket) -> None:
        """Queue an entry. Raises AuditUnavailable for one that is not kept, if it could not be written now."""
        with self._changed:
            if ticket.is_lost_on_failure and (cause := self._refusal(ticket)) is not None:
                raise AuditUnavailable(cause)
            self._queue.append(ticket)
            self._changed.notify()

    def count_denial(self, reason: Reason) -> None:
        now = self._clock.unix()
        with self._changed:
            if self._failure is None and self._denials.is_over(now):
                self._take_denials()
            self._denials.count(reason, now)
            self._changed.notify()

    def settle(self, limit_seconds: float) -> None:
        """Wait, at most that long, until nothing is left to write, or it cannot be; those who wait have been told."""
        with self._changed:
            self._rested.wait_for(
                lambda: self._is_resting and not (self._queue and self._failure is None), limit_seconds
            )

    def stop(self, limit_seconds: float) -> bool:
        """Write what is left and a last checkpoint; gives whether the thread ended within the limit."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(limit_seconds)
        return not self._thread.is_alive()

    def _is_settled(self) -> bool:
        return self._is_resting and (not self._queue or self._failure is not None)

    def _refusal(self, ticket: Ticket) -> Cause | None:
        if self._is_stopping:
            return Cause.CLOSED
        if self._failure is not None:
            self._failure.openings_lost += isinstance(ticket.entry, Opening)
            return self._failure.cause
        begun = self._writing_since
        if begun is not None and self._clock.steady() - begun > self._limits.patience_seconds:
            return Cause.TIMEOUT
        return Cause.QUEUE_FULL if len(self._queue) >= self._limits.queue_entries else None

    def _run(self) -> None:
        with self._opened:
            try:
                self._tell_head()
                while self._write_next():
                    pass
            except BaseException:
                self._told.failed(Cause.CLOSED)
                raise
            finally:
                with self._changed:
                    self._is_stopping = self._is_resting = True
                    left, self._queue = list(self._queue), deque()
                    self._rested.notify_all()
                self._told.settled([ticket for ticket in left if ticket.waiter is not None], Cause.CLOSED)

    def _write_next(self) -> bool:
        """Wait for something to write and write it; gives whether more may follow."""
        tickets, failure, is_last = self._next()
        tickets = [*self._unwritten, *(ticket for ticket in tickets if ticket.is_wanted)]
        entries = [ticket.entry for ticket in tickets]
        outage = None if failure is None else _outage(failure, failure.openings_lost)
        if outage is not None:
            entries.insert(0, outage)
        sign = is_last or outage is not None or self._seconds_to_checkpoint() <= 0
        waited_for = [ticket for ticket in tickets if ticket.waiter is not None]
        self._writing_since = self._clock.steady()
        try:
            self._journal.commit(entries, sign=sign)
        except OSError as error:
            self._unwritten = [ticket for ticket in tickets if not ticket.is_lost_on_failure]
            self._fail(cause_of(error), [ticket for ticket in tickets if ticket.is_lost_on_failure])
            return not is_last
        finally:
            self._writing_since = None
        self._unwritten.clear()
        if outage is not None:
            self._recover(outage)
        self._told.settled(waited_for, None)
        self._tell_head()
        return not is_last

    def _next(self) -> tuple[list[Ticket], _Failure | None, bool]:
        with self._changed:
            while not (self._is_stopping or (wait := self._seconds_to_wait()) <= 0):
                self._is_resting = True
                self._rested.notify_all()
                self._changed.wait(wait)
            self._is_resting = False
            if self._is_stopping or (self._failure is None and self._denials.is_over(self._clock.unix())):
                self._take_denials()
            tickets = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_ENTRIES))]
            return tickets, self._failure, self._is_stopping and not self._queue

    def _take_denials(self) -> None:
        denials = self._denials.take()
        if denials is not None:
            self._queue.append(Ticket(denials))

    def _seconds_to_wait(self) -> float:
        if self._failure is not None:
            return self._retry_at - self._clock.steady()
        if self._queue:
            return 0.0
        left = self._denials.seconds_left(self._clock.unix())
        return min(self._seconds_to_checkpoint(), 60.0 if left is None else left)

    def _seconds_to_checkpoint(self) -> float:
        return self._journal.checkpointed + self._limits.checkpoint_seconds - self._clock.steady()

    def _fail(self, cause: Cause, lost: Sequence[Ticket]) -> None:
        self._retry_at = self._clock.steady() + self._limits.retry_seconds
        with self._changed:
            lost = [*lost, *(ticket for ticket in self._queue if ticket.is_lost_on_failure)]
            self._queue = deque(ticket for ticket in self._queue if not ticket.is_lost_on_failure)
            if self._failure is None:
                self._failure = _Failure(cause, self._clock.unix(), 0)
            self._failure.cause = cause
            self._failure.openings_lost += sum(isinstance(ticket.entry, Opening) for ticket in lost)
        self._told.failed(cause)
        self._told.settled([ticket for ticket in lost if ticket.waiter is not None], cause)

    def _recover(self, told: Outage) -> None:
        with self._changed:
            failure, self._failure = self._failure, None
            missing = 0 if failure is None else failure.openings_lost - told.openings_lost
            if failure is not None and missing:  # refused while the write was under way that ended the outage
                self._queue.appendleft(Ticket(_outage(failure, missing)))

    def _tell_head(self) -> None:
        head = self._journal.head
        if head is not None and head != self._told_head:
            self._told_head = head
            self._told.signed(head)


def _outage(failure: _Failure, openings: int) -> Outage:
    return Outage(since=time_text(failure.since), cause=failure.cause, openings_lost=openings)
