"""Checks of a release plan as a whole: names that nothing stands behind, and steps that do not follow one another."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from sluicegate.auth.gates import BiasGate
from sluicegate.auth.release import ReleasePlan


def plan_problems(plan: ReleasePlan) -> Iterator[tuple[str, str]]:
    """What is wrong with a plan whose parts are good one by one, as (field, text)."""
    stages = plan.stages_by_id
    for name in repeated(stage.id for stage in plan.stages):
        yield "stages", f"two stages have the id {name}"
    for index, stage in enumerate(plan.stages):
        for model in stage.open:
            if model not in plan.models:
                yield f"stages.{index}.open.{model}", "no such model in `models`"
    if plan.active not in stages:
        yield "active", f"no such stage; the plan has {', '.join(stages)}"
    for name in repeated(f"{client.client} of {client.issuer}" for client in plan.internal.clients):
        yield "internal.clients", f"lists {name} twice"
    yield from _requirement_problems(plan)
    yield from _transition_problems(plan)


def _requirement_problems(plan: ReleasePlan) -> Iterator[tuple[str, str]]:
    for id_, gate in plan.gates.items():
        if isinstance(gate, BiasGate) and gate.not_worse_than not in (None, *plan.models):
            yield f"gates.{id_}.not_worse_than", "no such model in `models`"
    for index, stage in enumerate(plan.stages):
        for name in repeated(f"{each.name} of {each.model}" for each in stage.requires):
            yield f"stages.{index}.requires", f"lists {name} twice"
        for position, requirement in enumerate(stage.requires):
            place = f"stages.{index}.requires.{position}"
            if requirement.gate is not None and requirement.gate not in plan.gates:
                yield f"{place}.gate", "no such gate in `gates`"
            if requirement.model not in plan.models:
                yield f"{place}.model", "no such model in `models`"
            elif plan.models[requirement.model].weights_sha256 is None:
                text = f"`models.{requirement.model}` needs `weights_sha256`: evidence is about weights, not names"
                yield f"{place}.model", text


def _transition_problems(plan: ReleasePlan) -> Iterator[tuple[str, str]]:
    stages = plan.stages_by_id
    reached = plan.stages[0].id
    for index, transition in enumerate(plan.transitions):
        for field, stage_id in (("from", transition.from_), ("to", transition.to)):
            if stage_id not in stages:
                yield f"transitions.{index}.{field}", f"no such stage as {stage_id}"
        if transition.from_ != reached:
            yield f"transitions.{index}.from", f"must be {reached}, where the plan stood then"
        reached = transition.to
    for index, (before, after) in enumerate(itertools.pairwise(plan.transitions), start=1):
        if after.at < before.at:
            yield f"transitions.{index}.at", "is before the transition above it"


def repeated(names: Iterable[str]) -> list[str]:
    """Every name that stands there again."""
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
