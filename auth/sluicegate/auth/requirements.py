"""What stages require, held against evidence: met, failed or missing, and which transition cited what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sluicegate.auth.release import ReleasePlan, Requirement, Transition
from sluicegate.auth.signatures import must_be_signed
from sluicegate.evidence import Evidence, EvidenceSet, Filed, FindingEvidence


class RequirementState(StrEnum):
    """How a requirement stands."""

    MET = "met"
    FAILED = "failed"
    """There is evidence, and the newest does not pass."""
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A requirement held against evidence."""

    requirement: Requirement
    state: RequirementState
    explanation: str = ""
    """What is wrong and, where evidence is missing, how to come by it; empty where it is met."""
    evidence: Filed[Evidence] | None = None
    """The file that decided; None where it is missing."""

    @property
    def is_met(self) -> bool:
        return self.state is RequirementState.MET


def judge(plan: ReleasePlan, requirement: Requirement, evidence: EvidenceSet, at: datetime | None = None) -> Judgement:
    """Judge by the newest evidence about the weights that the plan pins. `at`: of the transition that is to rest on
    it; later evidence is none, and older than the gate allows fails. None: neither is looked at."""
    pins = {model: entry.weights_sha256 for model, entry in plan.models.items()}
    if requirement.gate is None:
        return _judge_finding(requirement, pins[requirement.model], evidence, at)
    gate = plan.gates[requirement.gate]
    filed, shortfall = gate.judge(evidence, requirement.model, pins, at)
    if filed is None:
        text = f"no evidence of {gate.wanted} for these weights; run `{gate.command(requirement.model)}`"
        return Judgement(requirement, RequirementState.MISSING, text)
    if shortfall is not None:
        return Judgement(requirement, RequirementState.FAILED, f"{filed.file}: {shortfall}", filed)
    return Judgement(requirement, RequirementState.MET, evidence=filed)


def stage_requirements(plan: ReleasePlan, stage: str, *, since: str | None = None) -> tuple[Requirement, ...]:
    """What a step to a stage asks for: what the stage requires, and every stage before it that is after `since`, so
    that a step over a stage is no way around it. None: every stage before it."""
    order = list(plan.stages_by_id)
    begin = order.index(since) + 1 if since is not None else 0
    passed = [plan.stages_by_id[id_] for id_ in order[begin : order.index(stage)]]
    return tuple(dict.fromkeys(each for row in (*passed, plan.stages_by_id[stage]) for each in row.requires))


def evidence_problems(plan: ReleasePlan, evidence: EvidenceSet) -> Iterator[tuple[str, str]]:
    """What is wrong with the evidence that the active stage was opened on, as (field, text).

    Only what its transitions cite counts. A stage that was not opened, the first one or one that was gone back to,
    needs none.
    """
    steps = _opening(plan)
    if not steps:
        return
    first, last = steps[0][1], steps[-1]
    cited = evidence.among(digest for _, transition in steps for digest in transition.evidence_sha256)
    for requirement in stage_requirements(plan, plan.active, since=first.from_):
        found = judge(plan, requirement, cited, last[1].at)
        if not found.is_met:
            text = f"requirement {requirement.name} of {requirement.model}: {found.explanation}"
            if found.state is RequirementState.MISSING:
                text += "; the transition must cite the digest, and the file must be in evidence/"
            yield f"transitions.{last[0]}.evidence_sha256", text


def _opening(plan: ReleasePlan) -> Sequence[tuple[int, Transition]]:
    """The transitions that the active stage rests on, with their positions: the last one that opened it, and those in
    which signers took a changed plan over since."""
    steps: list[tuple[int, Transition]] = []
    for index, transition in enumerate(plan.transitions):
        if transition.from_ != transition.to:
            steps = []
        if must_be_signed(transition, plan.stages_by_id) and (steps or transition.from_ != transition.to):
            steps.append((index, transition))
    return steps if steps and steps[0][1].to == plan.active else []


def _judge_finding(
    requirement: Requirement, weights: str | None, evidence: EvidenceSet, at: datetime | None
) -> Judgement:
    found = [
        each
        for each in evidence.of(FindingEvidence, requirement.model, weights or "")
        if each.evidence.partner == requirement.finding and (at is None or each.evidence.ended <= at)
    ]
    if not found:
        text = f"no finding of {requirement.finding} on these weights of {requirement.model} was accepted"
        return Judgement(requirement, RequirementState.MISSING, text)
    latest: dict[str, Filed[FindingEvidence]] = {}
    for each in found:
        latest.setdefault(each.evidence.finding, each)
    for each in latest.values():
        if each.evidence.review == "accepted":
            return Judgement(requirement, RequirementState.MET, evidence=each)
    text = f"{found[0].file}: the finding of {requirement.finding} was rejected"
    return Judgement(requirement, RequirementState.FAILED, text, found[0])
