"""The use case of looking at the release plan: its stages, what is in force, and the steps recorded so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluicegate.auth import (
    Judgement,
    ReleasePlan,
    Requirement,
    Stage,
    Transition,
    TrustRoot,
    must_be_signed,
    signers_of,
    transition_payloads,
)
from sluicegate.server.gate import Gate
from sluicegate.server.requirements import Requirements


@dataclass(frozen=True, slots=True)
class PlanView:
    """The plan that is loaded, and what operators have left of it."""

    revision: str
    plan: ReleasePlan
    in_force: Stage
    """What calls are judged by: the active stage, narrowed where operators went back to an earlier one."""
    withdrawn_models: tuple[str, ...]
    """Closed to everybody, whatever the stage opens."""
    is_signed: bool
    """Whether signatures are checked."""
    judged: Mapping[Requirement, Judgement | None]
    """How every stage's requirements stand; None: not known now."""
    severely_reported_models: tuple[str, ...]
    """Open ones against whose weights an accepted finding of high or critical severity stands, as far as is known."""


@dataclass(frozen=True, slots=True)
class TransitionView:
    """One recorded step. `valid_signatures` counts different signers; None where signatures are not checked."""

    sequence: int
    """From 1."""
    transition: Transition
    needs_signatures: bool
    valid_signatures: int | None


class Stages:
    """Shows the release plan. One for the process; event loop only.

    `trust`: whose signatures count; None where the settings check none.
    """

    def __init__(self, gate: Gate, trust: TrustRoot | None, requirements: Requirements) -> None:
        self._gate = gate
        self._requirements = requirements
        self._trust = trust
        self._seen: tuple[ReleasePlan, Sequence[TransitionView]] | None = None

    async def plan(self) -> PlanView:
        """The plan as it is now."""
        policy = self._gate.policy
        return PlanView(
            revision=policy.revision,
            plan=policy.plan,
            in_force=policy.stage,
            withdrawn_models=tuple(model for model in policy.models if policy.is_withdrawn(model)),
            is_signed=policy.is_signed,
            judged=await self._requirements.judge(),
            severely_reported_models=await self._requirements.severely_reported(),
        )

    def transitions(self) -> Sequence[TransitionView]:
        """The recorded steps, the oldest first. Signatures are verified once for each plan, not for each question."""
        plan = self._gate.policy.plan
        if self._seen is None or self._seen[0] is not plan:
            self._seen = (plan, _transitions(plan, self._trust))
        return self._seen[1]


def _transitions(plan: ReleasePlan, trust: TrustRoot | None) -> Sequence[TransitionView]:
    payloads = transition_payloads(trust.deployment, plan.transitions) if trust is not None else ()
    views = []
    for sequence, transition in enumerate(plan.transitions, start=1):
        valid = None
        if trust is not None:
            signatures = zip(transition.by, transition.signatures, strict=False)
            valid = len(signers_of(trust, signatures, payloads[sequence - 1]))
        views.append(TransitionView(sequence, transition, must_be_signed(transition, plan.stages_by_id), valid))
    return views
