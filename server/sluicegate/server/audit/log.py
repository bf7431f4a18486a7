"""The audit log as the server uses it: a call waits until its opening is on the disk, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sluicegate.auth import Reason
from sluicegate.server.audit.chain import Head
from sluicegate.server.audit.entries import Closing, Event, Opening
from sluicegate.server.audit.errors import AuditUnavailable, Cause
from sluicegate.server.audit.form import check
from sluicegate.server.audit.journal import Clock, Identity, Journal, open_journal
from sluicegate.server.audit.writer import Limits, Ticket, Writer

MAX_OPEN_CALLS = 10_000
"""Each has its place in the header of the next file, which is one line."""


def _nothing(_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the log tells others. Called on the event loop; must neither block nor raise."""

    on_failure: Callable[[Cause], None] = _nothing
    """A write failed, or a call was refused for want of room or time."""
    anchor: Callable[[Head], None] = _nothing
    """A checkpoint is durable; keep its head where whoever can write the log cannot change it."""


class _OnLoop:
    """Brings what the thread tells over to the event loop."""

    def __init__(self, hooks: Hooks, settled: Callable[[Sequence[Ticket], Cause | None], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._hooks = hooks
        self._settled = settled

    def settled(self, tickets: Sequence[Ticket], cause: Cause | None) -> None:
        if tickets:
            self._call(self._settled, tickets, cause)

    def failed(self, cause: Cause) -> None:
        self._call(self._hooks.on_failure, cause)

    def signed(self, head: Head) -> None:
        self._call(self._hooks.anchor, head)

    def _call(self, what: Callable[..., None], *told: object) -> None:
        with suppress(RuntimeError):  # the event loop has been closed: nobody is left to hear it
            self._loop.call_soon_threadsafe(what, *told)


class AuditLog:
    """The log of one server. Event loop only; use `open_audit_log`."""

    def __init__(self, journal: Journal, opened: ExitStack, limits: Limits, hooks: Hooks, clock: Clock) -> None:
        self._journal = journal
        self._limits = limits
        self._hooks = hooks
        self._clock = clock
        self.last_withdrawals = journal.withdrawals
        """Those that the server went by when it last wrote this log; None where that does not say."""
        self._open: set[str] = set()
        self._opening = 0  # calls whose openings are being written
        self._writer = Writer(journal, opened, limits, clock, _OnLoop(hooks, self._settle))
        self._writer.start()

    @property
    def last_checkpoint_age(self) -> float:
        """Seconds since the last checkpoint became durable."""
        return self._clock.steady() - self._journal.checkpointed

    async def open_call(self, opening: Opening, *, on_late: Callable[[], None] | None = None) -> None:
        """Return when the opening of an allowed call is durable: no token may leave before.

        The call must then be closed with `close_call`, whatever becomes of it. If this raises or is cancelled it must
        not: should its opening have been written all the same, the log closes it itself. With `on_late` the call goes
        on without: an opening that comes late is still written, `on_late` is called then, and the call must be closed.

        Raises AuditUnavailable; at once as long as the disk takes nothing. Raises ValueError for an entry that
        breaks the rules of its fields.
        """
        check(opening)
        if len(self._open) + self._opening >= MAX_OPEN_CALLS:
            self._hooks.on_failure(Cause.QUEUE_FULL)
            raise AuditUnavailable(Cause.QUEUE_FULL)
        self._opening += 1
        try:
            await self._durable(opening, on_late)
        finally:
            self._opening -= 1
        self._open.add(opening.call)

    def tell_denied(self, opening: Opening) -> None:
        """Write the opening of a refused call, without waiting. If the disk does not take it, it is counted as lost.

        Raises ValueError for an entry that breaks the rules of its fields.
        """
        check(opening)
        with suppress(AuditUnavailable):
            self._writer.put(Ticket(opening, is_kept=False))

    def close_call(self, closing: Closing) -> None:
        """Write the end of a call that `open_call` returned for, without waiting; it is kept until the disk takes it.

        Raises ValueError for an entry that breaks the rules of its fields.
        """
        check(closing)
        assert closing.call in self._open, "closed a call that is not open"
        self._open.remove(closing.call)
        self._writer.put(Ticket(closing))

    async def record(self, entry: Event) -> None:
        """Return when the entry is durable. Raises as `open_call` does."""
        check(entry)
        await self._durable(entry)

    def note(self, entry: Event) -> None:
        """Write an entry without waiting; it is kept until the disk takes it. For what has happened already.

        Raises ValueError for an entry that breaks the rules of its fields.
        """
        check(entry)
        self._writer.put(Ticket(entry))

    def count_denial(self, reason: Reason) -> None:
        """Count a call that was refused before its caller was known; one entry a minute tells of all of them."""
        self._writer.count_denial(reason)

    async def close(self, limit_seconds: float) -> None:
        """Write what is left and a last checkpoint. A disk that hangs is given up after the limit.

        First what waits is settled: a call that was cancelled while its opening was written gets its end by that.
        """
        end = asyncio.get_running_loop().time() + limit_seconds
        await asyncio.to_thread(self._writer.settle, limit_seconds)
        seconds_left = max(0.0, end - asyncio.get_running_loop().time())
        if not await asyncio.to_thread(self._writer.stop, seconds_left):
            self._hooks.on_failure(Cause.TIMEOUT)

    async def _durable(self, entry: Opening | Event, on_late: Callable[[], None] | None = None) -> None:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = Ticket(entry, written, on_late=on_late)
        try:
            self._writer.put(ticket)
        except AuditUnavailable as error:
            if error.cause is Cause.QUEUE_FULL:
                self._hooks.on_failure(error.cause)
            raise
        try:
            async with asyncio.timeout(self._limits.patience_seconds):
                await written
        except (TimeoutError, asyncio.CancelledError) as error:
            ticket.is_abandoned = True
            if isinstance(error, TimeoutError):
                ticket.undone_as = ("UNAVAILABLE", Reason.AUDIT_UNAVAILABLE)
            if written.done() and not written.cancelled() and written.exception() is None:
                self._undo(ticket)  # it was written, and the caller was ended before it could hear of it
            if isinstance(error, TimeoutError):
                self._hooks.on_failure(Cause.TIMEOUT)
                raise AuditUnavailable(Cause.TIMEOUT) from None
            raise

    def _settle(self, tickets: Sequence[Ticket], cause: Cause | None) -> None:
        for ticket in tickets:
            assert ticket.waiter is not None
            if ticket.waiter.done():
                if cause is None:
                    self._undo(ticket)
            elif cause is None:
                ticket.waiter.set_result(None)
            else:
                ticket.waiter.set_exception(AuditUnavailable(cause))

    def _undo(self, ticket: Ticket) -> None:
        """Close a call that was opened for nobody, unless somebody cares for it."""
        entry = ticket.entry
        if not isinstance(entry, Opening):
            return
        if ticket.on_late is not None:
            self._open.add(entry.call)
            ticket.on_late()
        else:
            code, reason = ticket.undone_as
            self._writer.put(
                Ticket(Closing(call=entry.call, emitted_tokens=0, code=code, reason=reason, duration_ms=0))
            )


@asynccontextmanager
async def open_audit_log(
    directory: Path,
    identity: Identity,
    key: Ed25519PrivateKey,
    *,
    limits: Limits | None = None,
    hooks: Hooks | None = None,
    clock: Clock | None = None,
    anchored: Head | None = None,
    others: Sequence[Head] = (),
    must_be_anchored: bool = False,
    close_seconds: float = 10.0,
) -> AsyncIterator[AuditLog]:
    """Open the log of a directory, recovering what a crash left; it is closed when the context is left.

    `anchored` is the newest head that `Hooks.anchor` was told for this log; `others` are of any logs, of which those of
    this one count too. Raises AuditError.
    """
    limits, clock = limits or Limits(), clock or Clock()
    opening = open_journal(
        directory,
        identity,
        key,
        clock=clock,
        file_bytes=limits.file_bytes,
        anchored=anchored,
        others=others,
        must_be_anchored=must_be_anchored,
    )
    with ExitStack() as opened:
        journal = await asyncio.to_thread(opened.enter_context, opening)
        log = AuditLog(journal, opened.pop_all(), limits, hooks or Hooks(), clock)
    try:
        yield log
    finally:
        await log.close(close_seconds)
