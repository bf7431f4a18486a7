"""A model's card: what was measured on the weights that are served, and how the model came to be open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sluicegate.auth import Audience, Policy, ReleasePlan, Transition
from sluicegate.evidence import BiasEvidence, Filed, MemorisationEvidence, WatermarkEvidence


@dataclass(frozen=True, slots=True)
class OpeningChange:
    """A recorded step by which others may use a model than before. None: nobody."""

    transition: Transition
    before: Audience | None
    after: Audience | None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is missing was not measured, or not on these weights."""

    bias: tuple[Filed[BiasEvidence], ...]
    """The latest of each suite, by its name."""
    watermark: Filed[WatermarkEvidence] | None
    """The latest."""
    memorisation: tuple[Filed[MemorisationEvidence], ...]
    """The latest on each corpus with and without prompts from it."""
    openings: tuple[OpeningChange, ...]
    """The oldest first."""


def model_card(policy: Policy, model: str, weights_sha256: str | None) -> ModelCard:
    """The card of a model of the policy. `weights_sha256`: of what is served; None: not known, and so nothing of them.

    Findings are no part of it: who reported what is between the reporter and the operators.
    """
    openings = tuple(opening_changes(policy.plan, model))
    if weights_sha256 is None:
        return ModelCard((), None, (), openings)
    evidence = policy.evidence
    return ModelCard(
        bias=evidence.latest(BiasEvidence, model, weights_sha256),
        watermark=next(iter(evidence.latest(WatermarkEvidence, model, weights_sha256)), None),
        memorisation=evidence.latest(MemorisationEvidence, model, weights_sha256),
        openings=openings,
    )


def opening_changes(plan: ReleasePlan, model: str) -> Iterator[OpeningChange]:
    """The steps that changed whom the model is open to, the oldest first, by the stages as the plan has them now."""
    stages = plan.stages_by_id
    for transition in plan.transitions:
        before, after = (stages[id_].open.get(model) for id_ in (transition.from_, transition.to))
        if before is not after:
            yield OpeningChange(transition, before, after)
