"""Withdrawals, and how soon they took effect on calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sluicegate.auth import Reason
from sluicegate.auth.withdrawals import MAX_AGE_SECONDS
from sluicegate.server.audit import Closing, Opening, Withdrawn
from sluicegate.server.report.calls import Cell, OpenCall
from sluicegate.server.report.period import seconds_of

MAX_WITHDRAWALS = 1_000
"""Of a period: more are counted, and not followed."""
NAMES_NOBODY = frozenset({"agreement", "model", "stage", "key"})
"""Kinds whose target is an id of the policy or of an issuer's key. Those of the others are people's and clients'."""

_ENDS: Mapping[str, frozenset[Reason]] = MappingProxyType(
    {
        "token": frozenset({Reason.TOKEN_WITHDRAWN}),
        "issued_before": frozenset({Reason.TOKEN_WITHDRAWN}),
        "key": frozenset({Reason.TOKEN_WITHDRAWN}),
        "client": frozenset({Reason.CALLER_WITHDRAWN}),
        "subject": frozenset({Reason.CALLER_WITHDRAWN}),
        "agreement": frozenset({Reason.AGREEMENT_WITHDRAWN, Reason.AGREEMENT_NOT_ACTIVE}),
        "model": frozenset({Reason.MODEL_WITHDRAWN, Reason.STAGE_CHANGED}),
        "stage": frozenset({Reason.STAGE_CHANGED}),
    }
)
"""With which reasons a running call ends that a withdrawal of the kind hits (judging.py)."""

_ALL_ENDS = frozenset[Reason]().union(*_ENDS.values())
_SURE = frozenset({Reason.TOKEN_WITHDRAWN, Reason.CALLER_WITHDRAWN, Reason.AGREEMENT_WITHDRAWN, Reason.MODEL_WITHDRAWN})
"""Reasons that nothing but a withdrawal gives. The others a change of policy gives too, maybe weeks later: with these
a call counts only if it was there when the order came, or came before a list of withdrawals that lacks it is stale."""

_EXACT: Mapping[str, Callable[[Opening], str | None]] = MappingProxyType(
    {
        "token": lambda opening: opening.jti_hash,
        "client": lambda opening: opening.client,
        "subject": lambda opening: opening.subject,
        "agreement": lambda opening: opening.agreement,
        "model": lambda opening: opening.model,
    }
)
"""Where an opening has the target. One that does, after the order, was let in though it should not have been."""
_VAGUE: Mapping[str, Callable[[Opening, str], bool]] = MappingProxyType(
    {
        # Another issuer's key may have this id; an opening has neither a token's age nor what an earlier stage opens.
        "key": lambda opening, target: opening.kid == target,
        "issued_before": lambda opening, target: all(
            part in (opening.client, opening.subject) for part in target.split()[1:]
        ),
        "stage": lambda _opening, _target: True,
    }
)


@dataclass(slots=True)
class Withdrawal:
    """One order, as it was carried out."""

    at: str
    kind: str
    target: str
    """Maybe a pseudonym: for NAMES_NOBODY only may it be shown."""
    id: str
    is_lifting: bool
    signers: int
    ended: Counter[Cell] = field(default_factory=Counter)
    """Running calls that it ended."""
    effective_at: str | None = None
    """Entry of the last call that it ended, or that was still let in; None: it met no call."""


class WithdrawalBook:
    """Follows the orders of a period. What comes after the period is not theirs to follow."""

    def __init__(self) -> None:
        self.withdrawals: list[Withdrawal] = []
        self.left_out = 0
        self._in_force: dict[str, Withdrawal] = {}
        self._exact: dict[tuple[str, str], dict[str, Withdrawal]] = {}
        """Those of _EXACT in force, by kind and target."""

    def ordered(self, at: str, entry: Withdrawn) -> None:
        """An order of the period; one that lifts another ends what is told of that."""
        if len(self.withdrawals) >= MAX_WITHDRAWALS:
            self.left_out += 1
            return
        order = Withdrawal(at, entry.withdrawal, entry.target, entry.id, entry.lifted, len(entry.signers))
        self.withdrawals.append(order)
        if entry.lifted:
            lifted = self._in_force.pop(entry.id, None)
            if lifted is not None:
                self._exact.get((lifted.kind, lifted.target), {}).pop(lifted.id, None)
        elif order.kind in _ENDS and order.id not in self._in_force:
            self._in_force[order.id] = order
            if order.kind in _EXACT:
                self._exact.setdefault((order.kind, order.target), {})[order.id] = order

    def opened(self, call: OpenCall) -> None:
        """A call was let in."""
        for kind, target_of in _EXACT.items():
            for order in self._exact.get((kind, target_of(call.opening) or ""), {}).values():
                order.effective_at = call.at

    def ended(self, at: str, call: OpenCall, closing: Closing) -> None:
        """A call ended. It counts for the earliest order that can have ended it."""
        if closing.reason is None or closing.reason not in _ALL_ENDS:
            return
        for order in self._in_force.values():
            if _hits(order, call, closing.reason):
                order.ended[call.cell] += 1
                order.effective_at = at
                return


def _hits(order: Withdrawal, call: OpenCall, reason: Reason) -> bool:
    if reason not in _ENDS[order.kind]:
        return False
    if order.kind in _EXACT:
        is_its_target = _EXACT[order.kind](call.opening) == order.target
        if reason in _SURE:
            return is_its_target
    else:
        is_its_target = _VAGUE[order.kind](call.opening, order.target)
    return is_its_target and seconds_of(call.at) <= seconds_of(order.at) + MAX_AGE_SECONDS
