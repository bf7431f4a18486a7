"""What a change of policy would have meant for calls that were made: who gains, who loses, who is served otherwise.

Pure, and constant in memory: records are read one by one, and what is kept are counts of a bounded number of groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sluicegate.auth.grant import Denied, Grant
from sluicegate.auth.policy import Policy
from sluicegate.auth.recorded import RecordedCall

MAX_GROUPS = 10_000
OTHER = "other"
"""Stands for every client, or model, that is not told apart."""


class Shift(StrEnum):
    """What becomes of a call."""

    GAINED = "gained"
    """It was refused, and would be served."""
    LOST = "lost"
    """It was served, and would be refused."""
    CHANGED = "changed"
    """It would still be served, as somebody else or under other limits or duties."""
    SERVED = "served"
    """Served both times alike."""
    REFUSED = "refused"
    """Refused both times."""


@dataclass(frozen=True, slots=True)
class Group:
    """Calls that are counted together."""

    shift: Shift
    partner: str
    """As whom they are served: before where they lose, else after."""
    client: str
    """The client with its issuer, or `other`; empty for callers without a token."""
    model: str
    action: str
    reason: str
    """Of the refusal before where they gain, after where they lose; else the terms that differ."""


@dataclass(slots=True)
class Tally:
    """The counts of a simulation so far."""

    totals: Counter[Shift] = field(default_factory=Counter)
    groups: Counter[Group] = field(default_factory=Counter)
    """Of GAINED, LOST and CHANGED calls."""

    @property
    def is_unchanged(self) -> bool:
        return not self.groups

    def by(self, attribute: str, shift: Shift) -> Mapping[str, int]:
        """The calls of a shift by one attribute of their groups, most first."""
        counts: Counter[str] = Counter()
        for group, calls in self.groups.items():
            if group.shift is shift:
                counts[getattr(group, attribute)] += calls
        return dict(counts.most_common())

    def add(self, group: Group) -> None:
        """Count one call. Once there are MAX_GROUPS groups, new ones are no longer told apart by client."""
        self.totals[group.shift] += 1
        if group.shift in (Shift.SERVED, Shift.REFUSED):
            return
        if group not in self.groups and len(self.groups) >= MAX_GROUPS:
            group = Group(group.shift, group.partner, OTHER, group.model, group.action, group.reason)
        self.groups[group] += 1


def simulate(before: Policy, after: Policy, calls: Iterable[RecordedCall]) -> Tally:
    """Decide every call under both policies, and count what becomes of it."""
    tally = Tally()
    for call in calls:
        tally.add(replay(before, after, call))
    return tally


def replay(before: Policy, after: Policy, call: RecordedCall) -> Group:
    """What becomes of one call, as the group that it counts to."""
    principal, peer = call.caller(before)
    old, new = (policy.decide(principal, call.request, peer, call.at) for policy in (before, after))
    shift, partner, reason = _shift(old, new)
    is_known = call.model in before.models or call.model in after.models
    client = "" if principal.anonymous else f"{call.client} of {call.issuer}"
    return Group(shift, partner, client, call.model if is_known else OTHER, call.action, reason)


def _shift(old: Grant | Denied, new: Grant | Denied) -> tuple[Shift, str, str]:
    match old, new:
        case Denied(), Denied():
            return Shift.REFUSED, "", new.reason.value
        case Denied(), Grant():
            return Shift.GAINED, new.partner, old.reason.value
        case Grant(), Denied():
            return Shift.LOST, old.partner, new.reason.value
    assert isinstance(old, Grant)
    assert isinstance(new, Grant)
    terms = _terms(old, new)
    return (Shift.CHANGED if terms else Shift.SERVED), new.partner, terms


def _terms(old: Grant, new: Grant) -> str:
    """Which terms of two grants differ, by name; stage and revision are not terms of a call."""
    names = (
        "audience",
        "agreement",
        "partner",
        "watermark",
        "redaction",
        "stop_flagged",
        "outside_hours",
        "quotas",
        "max_priority",
    )
    return ", ".join(name for name in names if getattr(old, name) != getattr(new, name))
