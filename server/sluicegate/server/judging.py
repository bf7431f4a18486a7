"""Running calls are judged again: when policy or withdrawals change, and when their token or agreement runs out.

A call is registered first and judged once more then, so that no change falls between its decision and its registration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sluicegate.auth import AccessRequest, Grant, Reason
from sluicegate.server.caller import Caller
from sluicegate.server.changes import Changes
from sluicegate.server.errors import CallRefused
from sluicegate.server.gate import Gate
from sluicegate.server.live import LiveCall

ONLY_AT_THE_START = frozenset({Reason.STEP_UP_REQUIRED, Reason.OUTSIDE_HOURS})
"""What is asked of a call when it begins: that an authentication ages and a working day ends does not cut it off."""


@dataclass(frozen=True, slots=True, eq=False)
class _Watched:
    """One running call with what was decided on."""

    call: LiveCall
    caller: Caller
    request: AccessRequest


class Judge:
    """Ends running calls that would not be allowed any more. One for the process; event loop only."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._watched: set[_Watched] = set()

    @contextmanager
    def watching(self, call: LiveCall, caller: Caller, request: AccessRequest) -> Iterator[None]:
        """Judge the call now, and again while the context is open. Raises CallRefused if it is not allowed any more.

        The end comes through `call`, wherever the call waits.
        """
        watched = _Watched(call, caller, request)
        self._watched.add(watched)
        remaining = call.grant.expires_at - self._gate.now()
        timer = asyncio.get_running_loop().call_later(remaining, call.end, self._expired(watched))
        try:
            if (refusal := self._refusal(watched)) is not None:
                raise refusal
            yield
        finally:
            timer.cancel()
            self._watched.discard(watched)

    async def run(self, changes: Changes) -> None:
        """Judge all whenever something has changed, until cancelled."""
        seen = changes.count
        while True:
            seen = await changes.beyond(seen)
            self.judge_all()

    def judge_all(self) -> None:
        """Judge every running call by the policy in force now."""
        for watched in list(self._watched):
            if (refusal := self._refusal(watched)) is not None:
                watched.call.end(refusal)

    def _refusal(self, watched: _Watched) -> CallRefused | None:
        """Why a call must end; None if it may go on under what it was granted."""
        if (denied := self._gate.check_caller(watched.caller.principal)) is not None:
            return CallRefused(denied.reason, denied.detail)
        granted = watched.call.grant.agreement
        # Judged as a call for partners only, one under an agreement cannot fall back to public, to other terms.
        request = replace(watched.request, partner_only=granted is not None)
        outcome = self._gate.decide(watched.caller, request)
        if isinstance(outcome, Grant):
            is_under_it = granted is None or outcome.agreement == granted
            return None if is_under_it else _ended(granted)
        match outcome.reason:
            case reason if reason in ONLY_AT_THE_START:
                return None
            case Reason.MODEL_NOT_RELEASED:
                return CallRefused(Reason.STAGE_CHANGED, outcome.detail)
            case Reason.AGREEMENT_REQUIRED:
                return _ended(granted)
            case reason:
                return CallRefused(reason, outcome.detail)

    @staticmethod
    def _expired(watched: _Watched) -> CallRefused:
        grant = watched.call.grant
        if watched.caller.principal.anonymous:
            return CallRefused(Reason.DEADLINE_EXCEEDED)
        if grant.agreement is not None and grant.expires_at < watched.caller.principal.expires_at:
            return CallRefused(Reason.AGREEMENT_EXPIRED, {"agreement": grant.agreement})
        return CallRefused(Reason.TOKEN_EXPIRED)


def _ended(agreement: str | None) -> CallRefused:
    """The refusal of a call whose agreement no longer carries it."""
    return CallRefused(Reason.AGREEMENT_NOT_ACTIVE, {"agreement": agreement or ""})
