"""The use case of operators: close something at once, see what is closed, take it back."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from itertools import takewhile
from typing import Any

import structlog

from sluicegate.auth import Principal, Reason, ReleasePlan, TrustRoot, lifting_payload, signers_of
from sluicegate.server.auditing import Auditing
from sluicegate.server.errors import CallRefused, FieldViolation
from sluicegate.server.gate import Gate
from sluicegate.server.metering import state_unavailable
from sluicegate.server.state import (
    AgreementTarget,
    ClientTarget,
    IssuedBeforeTarget,
    KeyTarget,
    ModelTarget,
    StageTarget,
    StateError,
    Store,
    SubjectTarget,
    Target,
    TokenTarget,
    Withdrawal,
    WithdrawalUnknown,
)
from sluicegate.server.withdrawing import WithdrawalWatch

log = structlog.get_logger()


IDENTITY_FIELDS: Mapping[type[Target], str] = {
    TokenTarget: "token",
    IssuedBeforeTarget: "issued_before",
    ClientTarget: "client",
    SubjectTarget: "subject",
    KeyTarget: "key",
}
"""Where the API's requests have targets that are about an issuer's names."""


class Closing:
    """Makes and lifts withdrawals. One for the process; event loop only.

    `trust`: who must sign what opens wider; None where the settings check no signatures. `issuers`: whose tokens are
    believed at all.
    """

    def __init__(
        self,
        store: Store,
        watch: WithdrawalWatch,
        gate: Gate,
        trust: TrustRoot | None,
        auditing: Auditing,
        *,
        issuers: Collection[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._watch = watch
        self._gate = gate
        self._trust = trust
        self._auditing = auditing
        self._issuers = issuers
        self._running: set[asyncio.Task[None]] = set()
        self._clock = clock

    def entries(self) -> Sequence[Withdrawal]:
        """Everything that is closed now, the oldest first."""
        return self._watch.entries

    async def create(
        self, operator: Principal, target: Target, justification: str, *, validate_only: bool
    ) -> Withdrawal:
        """Close something, on this replica before the answer. Raises CallRefused.

        The audit log is told first and waits for nothing; once it is, the door closes though the operator leaves.
        """
        self._check(target)
        made_by = f"{operator.subject} of {operator.issuer}"
        withdrawal = Withdrawal(str(uuid.uuid4()), target, int(self._clock()), justification, made_by)
        if not validate_only:
            self._auditing.withdrawn(operator, withdrawal)
            await self._carried_out(self._store.withdraw(withdrawal))
            log.warning("withdrawal_made", id=withdrawal.id, kind=withdrawal.kind)
        return withdrawal

    async def lift(
        self,
        operator: Principal,
        id_: str,
        justification: str,
        signatures: Sequence[tuple[str, str]],
        *,
        validate_only: bool,
    ) -> None:
        """Take a withdrawal back. `signatures`: signers with their signatures. Raises CallRefused.

        What opens wider stands in the audit log before it does.
        """
        found = next((entry for entry in self._watch.entries if entry.id == id_), None)
        if found is None:
            raise _unknown()
        signed_by: Collection[str] = ()
        if isinstance(found.target, ModelTarget | StageTarget | AgreementTarget) and self._trust is not None:
            signed_by = signers_of(self._trust, signatures, lifting_payload(self._trust.deployment, id_))
            if len(signed_by) < self._trust.threshold:
                facts = {"needed": str(self._trust.threshold), "valid": str(len(signed_by))}
                raise CallRefused(Reason.SIGNATURES_REQUIRED, facts)
        if validate_only:
            return

        async def lift() -> None:
            await self._auditing.lifting(operator, found, justification, sorted(signed_by))
            await self._store.lift(id_)

        await self._carried_out(lift())
        log.warning("withdrawal_lifted", id=id_, kind=found.kind)

    async def _carried_out(self, change: Coroutine[Any, Any, object]) -> None:
        """Make a change and see it in force here, to the end whatever becomes of its caller. Raises CallRefused."""

        async def work() -> None:
            await change
            await self._watch.refresh()

        task = asyncio.create_task(work())
        self._running.add(task)
        task.add_done_callback(self._forget)
        try:
            await asyncio.shield(task)
        except WithdrawalUnknown:
            raise _unknown() from None
        except StateError as error:
            raise state_unavailable() from error

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Let go of it, and of an error that nobody waited for: asyncio would complain of that."""
        self._running.discard(task)
        if not task.cancelled():
            task.exception()

    def _check(self, target: Target) -> None:
        """Raise CallRefused for what would close nothing: a slip in a name must not look like a closed door."""
        policy = self._gate.policy
        match target:
            case TokenTarget() | IssuedBeforeTarget() | ClientTarget() | SubjectTarget() | KeyTarget():
                if target.issuer not in self._issuers:
                    field = IDENTITY_FIELDS[type(target)]
                    raise _invalid(f"target.{field}.issuer", "is an issuer of the settings, to the letter")
            case AgreementTarget(agreement=name) if name not in policy.agreements:
                raise _invalid("target.agreement", "is the id of an agreement on file")
            case ModelTarget(model=name) if name not in policy.models:
                raise _invalid("target.model", "is the id of a model of the policy")
            case StageTarget(stage=name) if name not in _earlier_stages(policy.plan):
                raise _invalid("target.stage", "is the id of a stage of the plan that comes before the active one")
            case _:
                pass


def _earlier_stages(plan: ReleasePlan) -> set[str]:
    """Those to go back to. Whoever names the active stage means to close it, and would have closed nothing."""
    return {stage.id for stage in takewhile(lambda stage: stage.id != plan.active, plan.stages)}


def _unknown() -> CallRefused:
    return _invalid("id", "is the id of a withdrawal in force")


def _invalid(field: str, rule: str) -> CallRefused:
    return CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation(field, rule)])
