"""How what stages require stands now: by the evidence beside the policy, and by the findings in the state store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sluicegate.auth import (
    Judgement,
    Policy,
    Requirement,
    RequirementState,
    judge,
    stage_requirements,
)
from sluicegate.server.background import Keep
from sluicegate.server.changes import Changes
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.state import FindingStatus, Severity, StateError, Store, list_of

REFRESH_SECONDS = 60.0
"""A review of a finding changes no file, so nothing announces it."""
SEVERE_FINDINGS = "findings:severe"
"""The gate that every open model stands under, whatever its stage requires. No id of the plan has a colon."""
MOST_FINDINGS = 1_000
"""The newest findings on a model that are looked through for severe ones."""

_SEVERE = frozenset({Severity.HIGH, Severity.CRITICAL})


class Requirements:
    """Judges requirements. One for the process; event loop only. `policy` gives the policy in force."""

    def __init__(self, store: Store, policy: Callable[[], Policy]) -> None:
        self._store = store
        self._policy = policy

    async def judge(self) -> Mapping[Requirement, Judgement | None]:
        """Every requirement of every stage; None for one about a finding while the store cannot be asked."""
        return await self._judge(self._policy())

    async def _judge(self, policy: Policy) -> Mapping[Requirement, Judgement | None]:
        judged: dict[Requirement, Judgement | None] = {}
        for requirement in dict.fromkeys(each for stage in policy.plan.stages for each in stage.requires):
            if requirement.finding is None:
                judged[requirement] = judge(policy.plan, requirement, policy.evidence)
                continue
            try:
                judged[requirement] = await self._judge_finding(policy, requirement, requirement.finding)
            except StateError:
                judged[requirement] = None
        return judged

    async def gates(self) -> Mapping[tuple[str, str], bool | None]:
        """Whether each gate that the stage in force rests on is passed now, by gate and model; None: not known.

        A model that is open to anybody also stands under SEVERE_FINDINGS: no finding of high or critical severity on
        its weights was accepted.
        """
        policy = self._policy()
        judged = await self._judge(policy)
        is_known = policy.stage.id in policy.plan.stages_by_id  # what operators went back to may be no stage any more
        resting = stage_requirements(policy.plan, policy.stage.id) if is_known else ()
        passed: dict[tuple[str, str], bool | None] = {}
        for requirement in resting:
            found = judged[requirement]
            passed[(requirement.name, requirement.model)] = found.is_met if found is not None else None
        for model, has_severe in (await self._severe(policy)).items():
            passed[(SEVERE_FINDINGS, model)] = not has_severe if has_severe is not None else None
        return passed

    async def severely_reported(self) -> tuple[str, ...]:
        """The open models that do not pass SEVERE_FINDINGS, as far as is known."""
        return tuple(model for model, has_severe in (await self._severe(self._policy())).items() if has_severe)

    async def _severe(self, policy: Policy) -> Mapping[str, bool | None]:
        """Whether a severe finding stands against each open model; None: not known."""
        found: dict[str, bool | None] = {}
        for model in policy.stage.open:
            try:
                found[model] = await self._has_severe(policy, model)
            except StateError:
                found[model] = None
        return found

    async def _judge_finding(self, policy: Policy, requirement: Requirement, partner: str) -> Judgement:
        """Here the store says what was accepted; evidence files say what was when they were made."""
        weights = policy.models[requirement.model].weights_sha256
        found = await self._store.findings_of(partner, requirement.model)
        statuses = {each.status for each in found if each.finding.weights_sha256 == weights}
        if FindingStatus.ACCEPTED in statuses:
            return Judgement(requirement, RequirementState.MET)
        if FindingStatus.OPEN in statuses:
            text = f"{partner} has filed a finding on these weights, which no operator has accepted"
            return Judgement(requirement, RequirementState.MISSING, text)
        if statuses:
            return Judgement(requirement, RequirementState.FAILED, f"the finding of {partner} was rejected")
        return Judgement(requirement, RequirementState.MISSING, f"{partner} has filed no finding on these weights")

    async def _has_severe(self, policy: Policy, model: str) -> bool:
        pinned = policy.models[model].weights_sha256
        for filed in await self._store.findings(list_of(model=model), most=MOST_FINDINGS):
            is_of_these = pinned is None or filed.finding.weights_sha256 == pinned
            if filed.status is FindingStatus.ACCEPTED and filed.finding.report.severity in _SEVERE and is_of_these:
                return True
        return False


class RequirementFigures:
    """Keeps the metric of gates. One for the process; event loop only; `run` it in the background."""

    def __init__(self, requirements: Requirements, metrics: Metrics, changes: Changes) -> None:
        self._requirements = requirements
        self._metrics = metrics
        self._changes = changes

    async def run(self) -> None:
        """Look at each change of policy, and each minute, until cancelled."""
        count = self._changes.count
        while True:
            await self.refresh()
            count = await self._changes.beyond(count, REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Look once. What cannot be known keeps its figure: the store's silence shows elsewhere."""
        self._metrics.control.take_gates(await self._requirements.gates())


def watched_requirements(
    keep: Keep, store: Store, policy: Callable[[], Policy], metrics: Metrics, changes: Changes
) -> Requirements:
    """How requirements stand; which gates are passed is kept in the metrics."""
    requirements = Requirements(store, policy)
    keep(RequirementFigures(requirements, metrics, changes).run, "requirements")
    return requirements
