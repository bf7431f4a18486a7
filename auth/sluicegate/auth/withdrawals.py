"""What operators have closed, as the decision sees it: a value that only ever narrows.

The server's state store has the list with its history; this is what one reading of it comes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sluicegate.auth.principal import Principal
from sluicegate.auth.release import ReleasePlan, Stage

MAX_AGE_SECONDS = 5.0
"""Row 17: a list that was confirmed longer ago may miss what was closed meanwhile."""


@dataclass(frozen=True, slots=True)
class IssuedBefore:
    """All tokens with `iat` before a time (Unix seconds): of the issuer, or only of one client or subject of it."""

    issuer: str
    time: int
    client: str | None = None
    subject: str | None = None

    def covers(self, principal: Principal) -> bool:
        return (
            principal.issuer == self.issuer
            and principal.issued_at < self.time
            and self.client in (None, principal.client_id)
            and self.subject in (None, principal.subject)
        )


@dataclass(frozen=True, slots=True)
class Withdrawals:
    """Everything that is closed now. Tokens, clients, subjects and keys stand with their issuer: (issuer, name)."""

    tokens: frozenset[tuple[str, str]] = frozenset()
    """By `jti`."""
    issued_before: tuple[IssuedBefore, ...] = ()
    keys: frozenset[tuple[str, str]] = frozenset()
    """By `kid`."""
    clients: frozenset[tuple[str, str]] = frozenset()
    subjects: frozenset[tuple[str, str]] = frozenset()
    agreements: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    stages: frozenset[str] = frozenset()
    """Earlier stages that operators went back to."""

    def close_token(self, principal: Principal) -> bool:
        """Whether the token that the caller brought is closed, by itself, by its key or by its age."""
        return not principal.anonymous and (
            (principal.issuer, principal.token_id) in self.tokens
            or (principal.issuer, principal.key_id) in self.keys
            or any(each.covers(principal) for each in self.issued_before)
        )

    def close_caller(self, principal: Principal) -> bool:
        """Whether the client or the subject is closed, whatever token it brings."""
        return not principal.anonymous and (
            (principal.issuer, principal.client_id) in self.clients
            or (principal.issuer, principal.subject) in self.subjects
        )


def stage_in_force(plan: ReleasePlan, withdrawals: Withdrawals | None) -> Stage:
    """The active stage or, where operators went back, the earliest of theirs.

    What is open in it is open in all of them: an earlier stage that has something of its own cannot open it by way of
    a withdrawal. A stage that the plan no longer has opens nothing, since nobody can tell what it was to leave open.
    """
    active = plan.stages_by_id[plan.active]
    if withdrawals is None or not withdrawals.stages:
        return active
    unknown = sorted(withdrawals.stages - plan.stages_by_id.keys())
    if unknown:
        return Stage.model_construct(id=unknown[0], name=unknown[0], open={}, requires=())
    return _narrowed([stage for stage in plan.stages if stage.id in withdrawals.stages or stage is active])


def _narrowed(stages: Sequence[Stage]) -> Stage:
    """The first of these stages, with what all of them open, to the narrowest of their audiences."""
    shared = [model for model in stages[0].open if all(model in stage.open for stage in stages)]
    return stages[0].model_copy(
        update={"open": {model: max(stage.open[model] for stage in stages) for model in shared}}
    )
