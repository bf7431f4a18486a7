"""What the audit log is told, and when. audit_entries.py says what stands in an entry, docs/audit.md what for.

A call that may be served has its opening on the disk before its first token (row 21), and a closing however it ends. A
refused one has an opening with the reason; of calls that are refused before their caller is admitted (rows 1 to 10),
which one client could make without end, only the number is written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from sluicegate.auth import AccessRequest, Grant, Policy, Principal, Reason
from sluicegate.server import audit_entries
from sluicegate.server.audit import AuditUnavailable, Closing, Opening, PolicyChanged, Pseudonyms, Withdrawn
from sluicegate.server.audit_entries import AuditedCall
from sluicegate.server.caller import Caller
from sluicegate.server.changes import Changes
from sluicegate.server.output import FinishReason, Usage
from sluicegate.server.state import Withdrawal


class Log(Protocol):
    """What is asked of a log; see audit.AuditLog."""

    async def open_call(self, opening: Opening) -> None: ...

    def close_call(self, closing: Closing) -> None: ...

    async def record(self, entry: Withdrawn | PolicyChanged) -> None: ...

    def note(self, entry: Withdrawn | PolicyChanged) -> None: ...

    def count_denial(self, reason: Reason) -> None: ...


class NoLog:
    """Keeps nothing: where the settings have the log off."""

    async def open_call(self, opening: Opening) -> None: ...

    def close_call(self, closing: Closing) -> None: ...

    async def record(self, entry: Withdrawn | PolicyChanged) -> None: ...

    def note(self, entry: Withdrawn | PolicyChanged) -> None: ...

    def count_denial(self, reason: Reason) -> None: ...


class Auditing:
    """The server's side of its audit log. One for the process; event loop only.

    `policy` gives the policy in force, `clock` monotonic seconds.
    """

    def __init__(
        self,
        log: Log,
        names: Pseudonyms,
        policy: Callable[[], Policy],
        *,
        signatures_checked: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log = log
        self.names = names
        self.policy = policy
        self.clock = clock
        self._signatures_checked = signatures_checked
        self._told: tuple[str, str] | None = None
        """Revision and stage of the last entry about the policy."""
        self._open: set[CallRecord] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def ended(self, seconds: float) -> bool:
        """Wait until no call is open any more, or that long; gives whether none is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none_open.wait()
        return not self._open

    def opened(self, record: CallRecord) -> None:
        """For records only: the call has its opening."""
        self._open.add(record)
        self._none_open.clear()

    def closed(self, record: CallRecord) -> bool:
        """For records only: the call is over; gives whether it was open."""
        was_open = record in self._open
        self._open.discard(record)
        if not self._open:
            self._none_open.set()
        return was_open

    def is_open(self, record: CallRecord) -> bool:
        """For records only."""
        return record in self._open

    def record(self, caller: Caller, request_id: str, method: str, arrived: float) -> CallRecord:
        """The entries of a call that is beginning; `arrived` in monotonic seconds."""
        return CallRecord(self, caller, request_id, method, arrived)

    def count_denial(self, reason: Reason) -> None:
        """A call was refused before its caller was admitted."""
        self.log.count_denial(reason)

    async def run(self, changes: Changes) -> None:
        """Tell of the policy in force, and of each one after it, until cancelled."""
        seen = changes.count
        while True:
            self.tell_policy()
            seen = await changes.beyond(seen)

    def tell_policy(self) -> None:
        """Tell of the policy in force, if its revision or stage is another than before."""
        policy = self.policy()
        now, before = (policy.revision, policy.stage.id), self._told
        if now == before:
            return
        self._told = now
        self.log.note(
            PolicyChanged(
                revision=now[0],
                previous_revision=before[0] if before is not None else None,
                stage=now[1],
                previous_stage=before[1] if before is not None else None,
                signatures_checked=self._signatures_checked,
            )
        )

    def withdrawn(self, operator: Principal, withdrawal: Withdrawal) -> None:
        """A door was closed. The entry is kept until the disk takes it: closing waits for no disk."""
        self.log.note(audit_entries.withdrawn(self.names, operator, withdrawal))

    async def lifting(
        self, operator: Principal, withdrawal: Withdrawal, justification: str, signers: Sequence[str]
    ) -> None:
        """A door is about to be opened again. Raises AuditUnavailable unless that is on the disk."""
        entry = audit_entries.withdrawn(self.names, operator, withdrawal, lifted_for=justification, signers=signers)
        await self.log.record(entry)


class CallRecord:
    """The entries of one call. Event loop only."""

    def __init__(self, auditing: Auditing, caller: Caller, request_id: str, method: str, arrived: float) -> None:
        self._auditing = auditing
        self._call = AuditedCall(request_id, caller, method)
        self._arrived = arrived
        self.finishes: Sequence[FinishReason] = ()
        """Of the candidates that ended by the call's own limits."""

    def asks(self, action: str, request: AccessRequest) -> None:
        """What the call asks for; until then it is known by its method."""
        self._call = replace(self._call, action=action, request=request)

    async def open(self, grant: Grant, *, reserved_tokens: int = 0) -> None:
        """Row 21: return when the opening is on the disk. No token may leave before.

        Raises AuditUnavailable, unless the policy serves such callers without.
        """
        auditing, policy = self._auditing, self._auditing.policy()
        opening = audit_entries.allowed(auditing.names, policy, self._call, grant, reserved_tokens=reserved_tokens)
        try:
            await auditing.log.open_call(opening)
        except AuditUnavailable:
            if not policy.plan.on_audit_lost.serves(grant.audience):
                raise
        else:
            auditing.opened(self)

    async def refused(self, code: str, reason: Reason) -> None:
        """The call is refused: tell of it, unless it was open. If that fails, the caller still is."""
        auditing = self._auditing
        if auditing.is_open(self):
            return
        opening = audit_entries.denied(auditing.names, auditing.policy(), self._call, code=code, reason=reason)
        with suppress(AuditUnavailable):
            await auditing.log.open_call(opening)

    def close(self, code: str, reason: Reason | None, usage: Usage | None) -> None:
        """The call is over: tell of it, if it was open."""
        if not self._auditing.closed(self):
            return
        finishes = dict.fromkeys(finish.name for finish in self.finishes)
        self._auditing.log.close_call(
            Closing(
                call=self._call.id,
                input_tokens=usage.prompt_tokens if usage is not None else 0,
                emitted_tokens=usage.output_tokens if usage is not None else 0,
                finish="+".join(finishes) or None,
                code=code,
                reason=reason,
                duration_ms=round((self._auditing.clock() - self._arrived) * 1000),
            )
        )
