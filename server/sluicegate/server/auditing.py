"""What the audit log is told, and when. audit_entries.py says what stands in an entry, docs/audit.md what for.

A call that may be served has its opening on the disk before its first token (row 21), and a closing however it ends. A
refused one has an opening with the reason. Of calls that are refused before their caller is admitted (rows 1 to 10),
and of a client's refusals beyond its budget, only the number is written: nobody fills a disk by being refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto
from typing import Protocol

import structlog

from sluicegate.auth import AccessRequest, Grant, Policy, Principal, Reason
from sluicegate.server import audit_entries
from sluicegate.server.audit import AuditUnavailable, Closing, Event, Opening, PolicyChanged, Pseudonyms, in_force
from sluicegate.server.audit_entries import AuditedCall
from sluicegate.server.caller import Caller
from sluicegate.server.changes import Changes
from sluicegate.server.limiters import Budgets
from sluicegate.server.output import FinishReason, Usage
from sluicegate.server.signals import PiiType
from sluicegate.server.state import Finding, Review, Version, Withdrawal

log = structlog.get_logger()


class Log(Protocol):
    """What is asked of a log; see audit.AuditLog."""

    async def open_call(self, opening: Opening, *, on_late: Callable[[], None] | None = None) -> None: ...

    def tell_denied(self, opening: Opening) -> None: ...

    def close_call(self, closing: Closing) -> None: ...

    async def record(self, entry: Event) -> None: ...

    def note(self, entry: Event) -> None: ...

    def count_denial(self, reason: Reason) -> None: ...


class NoLog:
    """Keeps nothing: where the settings have the log off."""

    async def open_call(self, opening: Opening, *, on_late: Callable[[], None] | None = None) -> None: ...

    def tell_denied(self, opening: Opening) -> None: ...

    def close_call(self, closing: Closing) -> None: ...

    async def record(self, entry: Event) -> None: ...

    def note(self, entry: Event) -> None: ...

    def count_denial(self, reason: Reason) -> None: ...


class Auditing:
    """The server's side of its audit log. One for the process; event loop only.

    `policy` gives the policy in force, `clock` monotonic seconds. Of one client, `denials_per_minute` refusals get an
    entry each; beyond that they are counted.
    """

    def __init__(
        self,
        log: Log,
        names: Pseudonyms,
        policy: Callable[[], Policy],
        *,
        signatures_checked: bool,
        denials_per_minute: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log = log
        self.names = names
        self.policy = policy
        self.clock = clock
        self._signatures_checked = signatures_checked
        self._denials = Budgets(denials_per_minute, clock)
        self._told: tuple[str, str] | None = None
        """Revision and stage of the last entry about the policy."""
        self._told_version: Version | None = None
        """Of the last entry about the list of withdrawals."""
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

    def closed(self, record: CallRecord, closing: Closing) -> None:
        """For records only: the call is over, and was open."""
        self._open.remove(record)
        if not self._open:
            self._none_open.set()
        self.log.close_call(closing)

    def may_tell_denied(self, caller: Caller) -> bool:
        """Whether one more refusal of this client gets an entry of its own; it counts as told then."""
        client = (caller.principal.issuer, caller.principal.client_id)
        if self._denials.wait_seconds(client):
            return False
        self._denials.spend(client)
        return True

    def record(self, caller: Caller, request_id: str, method: str, arrived: float) -> CallRecord:
        """The entries of a call that is beginning; `arrived` in monotonic seconds."""
        return CallRecord(self, caller, request_id, method, arrived)

    def count_denial(self, reason: Reason) -> None:
        """A call was refused, and gets no entry of its own."""
        self.log.count_denial(reason)

    async def run(self, changes: Changes, withdrawals: Callable[[], Version | None]) -> None:
        """Tell of the policy and the withdrawals in force, and of each that come after, until cancelled."""
        seen = changes.count
        while True:
            self.tell_policy()
            self.tell_withdrawals(withdrawals())
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

    def tell_withdrawals(self, version: Version | None) -> None:
        """Tell which withdrawals are in force, if they are others than before."""
        if version is not None and version != self._told_version:
            self._told_version = version
            self.log.note(in_force(version))

    def withdrawn(self, operator: Principal, withdrawal: Withdrawal) -> None:
        """An operator closes a door. The entry is kept until the disk takes it: closing waits for no disk."""
        self.log.note(audit_entries.withdrawn(self.names, operator, withdrawal))

    async def lifting(
        self, operator: Principal, withdrawal: Withdrawal, justification: str, signers: Sequence[str]
    ) -> None:
        """A door is about to be opened again. Raises AuditUnavailable unless that is on the disk."""
        entry = audit_entries.withdrawn(self.names, operator, withdrawal, lifted_for=justification, signers=signers)
        await self.log.record(entry)

    def operated(self, operator: Principal, operation: str, target: str, justification: str) -> None:
        """An operator steps in. The entry is kept until the disk takes it: an operator waits for no disk."""
        self.log.note(audit_entries.operated(self.names, operator, operation, target, justification))

    def finding_filed(self, reporter: Principal, finding: Finding) -> None:
        """A finding is in the store. The entry is kept until the disk takes it."""
        self.log.note(audit_entries.finding_filed(self.names, reporter, finding))

    async def reviewing(self, operator: Principal, finding: Finding, review: Review) -> None:
        """A review is about to count, and may open a stage. Raises AuditUnavailable unless that is on the disk."""
        await self.log.record(audit_entries.finding_reviewed(self.names, operator, finding, review))


class _State(Enum):
    """How far a call has come towards its opening."""

    NEW = auto()
    ASKED = auto()
    """The log was asked for an opening, and has answered no, or not yet."""
    OPEN = auto()
    OVER = auto()


class CallRecord:
    """The entries of one call. Event loop only."""

    def __init__(self, auditing: Auditing, caller: Caller, request_id: str, method: str, arrived: float) -> None:
        self._auditing = auditing
        self._call = AuditedCall(request_id, caller, method)
        self._arrived = arrived
        self._state = _State.NEW
        self._closing: Closing | None = None
        self.finishes: Sequence[FinishReason] = ()
        """Of the candidates that ended by the call's own limits."""
        self.watermark_id: str | None = None
        """Of the key that its output is marked by."""
        self.redactions: Mapping[PiiType, int] = {}
        """Personal data that was taken out of its output."""

    @property
    def action(self) -> str:
        """What the call asks for: generate, score or tokenize; else its method's name."""
        return self._call.action

    def asks(self, action: str, request: AccessRequest) -> None:
        """What the call asks for; until then it is known by its method."""
        self._call = replace(self._call, action=action, request=request)

    async def open(self, grant: Grant, *, reserved_tokens: int = 0) -> None:
        """Row 21: return when the opening is on the disk. No token may leave before.

        Raises AuditUnavailable, unless the policy serves such callers without. Of theirs, an opening that comes late
        is followed by an end all the same.
        """
        auditing, policy = self._auditing, self._auditing.policy()
        opening = audit_entries.allowed(auditing.names, policy, self._call, grant, reserved_tokens=reserved_tokens)
        is_served_without = policy.plan.on_audit_lost.serves(grant.audience)
        self._state = _State.ASKED
        try:
            await auditing.log.open_call(opening, on_late=self._opened if is_served_without else None)
        except AuditUnavailable:
            if not is_served_without:
                raise
        else:
            self._opened()

    def refused(self, code: str, reason: Reason) -> None:
        """The call is refused: tell of it, unless the log has heard of it. Waits for nothing, and raises nothing."""
        if self._state is not _State.NEW:
            return
        auditing = self._auditing
        if not auditing.may_tell_denied(self._call.caller):
            auditing.count_denial(reason)
            return
        opening = audit_entries.denied(auditing.names, auditing.policy(), self._call, code=code, reason=reason)
        try:
            auditing.log.tell_denied(opening)
        except ValueError as error:  # of our own making: the caller must hear of the refusal all the same
            log.error("denial_not_recorded", request_id=self._call.id, problem=str(error))

    def close(self, code: str, reason: Reason | None, usage: Usage | None) -> None:
        """The call is over: tell of it, if it is open, or else once it is."""
        finishes = dict.fromkeys(finish.name for finish in self.finishes)
        self._closing = Closing(
            call=self._call.id,
            input_tokens=usage.prompt_tokens if usage is not None else 0,
            emitted_tokens=usage.output_tokens if usage is not None else 0,
            finish="+".join(finishes) or None,
            redactions={kind.value: count for kind, count in self.redactions.items()},
            watermark_key=self.watermark_id,
            code=code,
            reason=reason,
            duration_ms=round((self._auditing.clock() - self._arrived) * 1000),
        )
        if self._state is _State.OPEN:
            self._auditing.closed(self, self._closing)
        self._state = _State.OVER

    def _opened(self) -> None:
        """The opening is on the disk; late, if the call is over already."""
        self._auditing.opened(self)
        if self._closing is not None:
            self._auditing.closed(self, self._closing)
        else:
            self._state = _State.OPEN
