"""Who could do what under one policy and not under another: every kind of caller, with every model and action.

A caller "can" if some call of it would be let through: one that brings every scope and meets each term of its
agreement, within its hours, and states a purpose that it covers. Quotas and the state of models are no part of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from sluicegate.auth.errors import ComparisonError
from sluicegate.auth.grant import Denied, Grant
from sluicegate.auth.policy import Policy
from sluicegate.auth.reasons import Reason
from sluicegate.auth.recorded import RecordedCall
from sluicegate.auth.simulation import Shift

MAX_COMPARED = 50_000
"""Kinds of callers, each with the agreements that name it, times models, times actions: a few seconds' work."""
ACTIONS = ("generate", "score")


@dataclass(frozen=True, slots=True)
class Subject:
    """A caller: a client; or, with both names empty, anybody else with a token, or anybody without one."""

    issuer: str = ""
    client: str = ""
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What one caller gains or loses with one model."""

    shift: Shift
    """GAINED or LOST."""
    subject: Subject
    model: str
    action: str
    partner: str
    """As whom it is served, after where it gains, before where it loses: `public`, `internal` or the partner's name."""
    agreement: str | None
    """Under which."""
    reason: Reason
    """Of the refusal, before where it gains, after where it loses."""


@dataclass(frozen=True, slots=True)
class AccessChanges:
    """Gains and losses, the public's first; `left_out` is how many more there are."""

    shown: tuple[AccessChange, ...]
    left_out: int


def access_changes(before: Policy, after: Policy, now: float, *, most: int) -> AccessChanges:
    """What changes for whom; `now` in Unix seconds. Withdrawals count where the policies have them.

    Raises ComparisonError where there are too many callers and models to look at each.
    """
    before, after = _at_any_hour(before), _at_any_hour(after)
    models = tuple(dict.fromkeys((*before.models, *after.models)))
    alike: dict[tuple[_Known, _Known], list[Subject]] = {}
    for subject in _subjects(before, after):
        known = (_known_of(before, subject, now), _known_of(after, subject, now))
        alike.setdefault(known, []).append(subject)
    weight = sum(1 + len(old.agreements) + len(new.agreements) for old, new in alike)
    if weight * len(models) * len(ACTIONS) > MAX_COMPARED:
        raise ComparisonError(f"{len(alike)} kinds of callers and {len(models)} models are too many to look at each")
    shown: list[AccessChange] = []
    total = 0
    for subjects in alike.values():
        changes = list(_changes(before, after, subjects[0], models, now))
        total += len(changes) * len(subjects)
        each_one = (replace(change, subject=subject) for subject in subjects for change in changes)
        shown.extend(itertools.islice(each_one, most - len(shown)))
    return AccessChanges(tuple(shown), total - len(shown))


def _at_any_hour(policy: Policy) -> Policy:
    """The policy without hours: what changes for a caller must not depend on the time of day."""
    agreements = {id_: each.model_copy(update={"hours": None}) for id_, each in policy.agreements.items()}
    return replace(policy, agreements=agreements)


def _subjects(before: Policy, after: Policy) -> Iterator[Subject]:
    """Everybody else, then the clients that either policy names, each once."""
    yield Subject()
    yield Subject(anonymous=True)
    internal = sorted(before.internal_clients | after.internal_clients)
    under_agreements = (*before.agreements_by_client, *after.agreements_by_client)
    for issuer, client in dict.fromkeys((*internal, *under_agreements)):
        yield Subject(issuer, client)


class _Known(NamedTuple):
    """All that a policy knows of a caller: those of whom it knows the same are decided alike."""

    is_anonymous: bool
    is_internal: bool
    agreements: tuple[str, ...]
    is_let_in: bool


def _known_of(policy: Policy, subject: Subject, now: float) -> _Known:
    key = (subject.issuer, subject.client)
    naming = tuple(each.id for each in policy.agreements_by_client.get(key, ()))
    caller, _ = _call(subject, "", ACTIONS[0], None, now).caller(policy)
    is_let_in = policy.check_caller(caller) is None
    return _Known(subject.anonymous, key in policy.internal_clients, naming, is_let_in)


def _changes(
    before: Policy, after: Policy, subject: Subject, models: tuple[str, ...], now: float
) -> Iterator[AccessChange]:
    for model, action in itertools.product(models, ACTIONS):
        match tuple(_best(policy, subject, model, action, now) for policy in (before, after)):
            case Denied() as old, Grant() as new:
                yield AccessChange(Shift.GAINED, subject, model, action, new.partner, new.agreement, old.reason)
            case Grant() as old, Denied() as new:
                yield AccessChange(Shift.LOST, subject, model, action, old.partner, old.agreement, new.reason)
            case _:
                pass


def _best(policy: Policy, subject: Subject, model: str, action: str, now: float) -> Grant | Denied:
    """The decision on the call that has the best prospects: it states a purpose of the agreement that fits best."""
    fitting = max(
        policy.agreements_by_client.get((subject.issuer, subject.client), ()),
        key=lambda each: (model in each.models, action in each.actions, each.may_come_into_force),
        default=None,
    )
    purpose = fitting.purposes[0] if fitting is not None and fitting.purposes else None
    call = _call(subject, model, action, purpose, now)
    principal, peer = call.caller(policy)
    return policy.decide(principal, call.request, peer, now)


def _call(subject: Subject, model: str, action: str, purpose: str | None, now: float) -> RecordedCall:
    """A call with every scope that it needs. What it leaves out is taken to meet the terms of its agreement."""
    return RecordedCall.model_construct(
        at=now,
        issuer=None if subject.anonymous else subject.issuer,
        client=None if subject.anonymous else subject.client,
        scopes=(f"{action}:{model}", f"logprobs:{model}"),
        action=action,
        model=model,
        purpose=purpose,
        logprobs=action == "score",
    )
