"""ReleaseService on the wire."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from sluicegate.auth import Judgement, Requirement, RequirementState, Stage
from sluicegate.server.paging import page
from sluicegate.server.rpc.call import authenticated
from sluicegate.server.rpc.responses import audience, timestamp
from sluicegate.server.rpc.simulations import simulation
from sluicegate.server.rpc.validation import validate
from sluicegate.server.simulating import Simulating
from sluicegate.server.stages import PlanView, Stages, TransitionView
from sluicegate.v1 import release_service_pb2
from sluicegate.v1.release_service_pb2_grpc import ReleaseServiceServicer

Context = grpc.aio.ServicerContext[object, object]


class ReleaseServicer(ReleaseServiceServicer):
    """Converts and passes on."""

    def __init__(self, stages: Stages, simulating: Simulating) -> None:
        self._stages = stages
        self._simulating = simulating

    async def GetReleasePlan(
        self, request: release_service_pb2.GetReleasePlanRequest, context: Context
    ) -> release_service_pb2.GetReleasePlanResponse:
        authenticated(context)
        validate(request)
        return release_service_pb2.GetReleasePlanResponse(plan=_plan(await self._stages.plan()))

    async def ListStageTransitions(
        self, request: release_service_pb2.ListStageTransitionsRequest, context: Context
    ) -> release_service_pb2.ListStageTransitionsResponse:
        authenticated(context)
        validate(request)
        views = self._stages.transitions()
        shown, following = page(views, lambda view: str(view.sequence), request.page_size, request.page_token)
        return release_service_pb2.ListStageTransitionsResponse(
            transitions=map(_transition, shown), next_page_token=following
        )

    async def SimulatePolicy(
        self, request: release_service_pb2.SimulatePolicyRequest, context: Context
    ) -> release_service_pb2.SimulatePolicyResponse:
        authenticated(context)
        validate(request)
        return simulation(await self._simulating.simulate([(file.name, file.content) for file in request.files]))


def _plan(view: PlanView) -> release_service_pb2.ReleasePlan:
    return release_service_pb2.ReleasePlan(
        policy_revision=view.revision,
        stages=[_stage(stage, view.judged) for stage in view.plan.stages],
        active_stage=view.plan.active,
        stage_in_force=_stage(view.in_force, view.judged),
        withdrawn_models=view.withdrawn_models,
        signatures_checked=view.is_signed,
        severely_reported_models=view.severely_reported_models,
    )


def _stage(stage: Stage, judged: Mapping[Requirement, Judgement | None]) -> release_service_pb2.Stage:
    pb = release_service_pb2
    return pb.Stage(
        id=stage.id,
        name=stage.name,
        open=[pb.ModelOpening(model=model, open_to=audience(open_to)) for model, open_to in stage.open.items()],
        requires=[_requirement(each, judged.get(each)) for each in stage.requires],
    )


def _requirement(requirement: Requirement, found: Judgement | None) -> release_service_pb2.StageRequirement:
    """The member of the oneof that is there, and what is known of it."""
    pb = release_service_pb2
    message = pb.StageRequirement(**requirement.model_dump(exclude_none=True))
    if found is not None:
        message.state = _STATES[found.state]
        message.explanation = found.explanation
        message.evidence_sha256 = found.evidence.sha256 if found.evidence is not None else ""
    return message


_STATES = {
    RequirementState.MET: release_service_pb2.REQUIREMENT_STATE_MET,
    RequirementState.FAILED: release_service_pb2.REQUIREMENT_STATE_FAILED,
    RequirementState.MISSING: release_service_pb2.REQUIREMENT_STATE_MISSING,
}


def _transition(view: TransitionView) -> release_service_pb2.StageTransition:
    step = view.transition
    return release_service_pb2.StageTransition(
        sequence=view.sequence,
        from_stage=step.from_,
        to_stage=step.to,
        transition_time=timestamp(step.at),
        authors=step.by,
        evidence_sha256=step.evidence_sha256,
        plan_sha256=step.plan_sha256 or "",
        needs_signatures=view.needs_signatures,
        valid_signatures=view.valid_signatures,
    )
