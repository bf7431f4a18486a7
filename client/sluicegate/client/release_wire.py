"""What wire.py does, for the release plan and for simulations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sluicegate.client import releases, wire
from sluicegate.v1 import release_service_pb2 as pb


def simulate_request(files: Mapping[str, bytes]) -> pb.SimulatePolicyRequest:
    """The request. Raises InvalidRequest for a file that no message can carry."""
    return pb.SimulatePolicyRequest(
        files=[
            wire.message(pb.PolicyFile, f"files[{index}].", name=name, content=content)
            for index, (name, content) in enumerate(files.items())
        ]
    )


def plan(message: pb.ReleasePlan) -> releases.ReleasePlan:
    return releases.ReleasePlan(
        policy_revision=message.policy_revision,
        stages=tuple(_stage(each) for each in message.stages),
        active_stage=message.active_stage,
        stage_in_force=_stage(message.stage_in_force),
        withdrawn_models=tuple(message.withdrawn_models),
        signatures_checked=message.signatures_checked,
        severely_reported_models=tuple(message.severely_reported_models),
    )


def transitions(messages: Iterable[pb.StageTransition]) -> tuple[releases.StageTransition, ...]:
    return tuple(
        releases.StageTransition(
            sequence=each.sequence,
            from_stage=each.from_stage,
            to_stage=each.to_stage,
            time=wire.time(each.transition_time) if each.HasField("transition_time") else None,
            authors=tuple(each.authors),
            evidence_sha256=tuple(each.evidence_sha256),
            plan_sha256=each.plan_sha256,
            needs_signatures=each.needs_signatures,
            valid_signatures=each.valid_signatures if each.HasField("valid_signatures") else None,
        )
        for each in messages
    )


def simulation(message: pb.SimulatePolicyResponse) -> releases.PolicySimulation:
    return releases.PolicySimulation(
        policy_revision=message.policy_revision,
        proposed_revision=message.proposed_revision,
        opens_wider=message.opens_wider,
        differences=tuple(_difference(each) for each in message.differences),
        differences_left_out=message.differences_left_out,
        access_changes=tuple(_access_change(each) for each in message.access_changes),
        access_changes_left_out=message.access_changes_left_out,
        signatures_checked=message.signatures_checked,
        signature_problems=tuple(
            releases.PolicyProblem(each.file, each.field, each.text) for each in message.signature_problems
        ),
        replay_state=wire.member(releases.ReplayState, pb.ReplayState.DESCRIPTOR, message.replay_state),
        replay=_replay(message.replay) if message.HasField("replay") else None,
    )


def _stage(message: pb.Stage) -> releases.Stage:
    return releases.Stage(
        id=message.id,
        name=message.name,
        open={each.model: wire.audience(each.open_to) for each in message.open},
        requires=tuple(
            releases.StageRequirement(
                model=each.model,
                gate=each.gate or None,
                finding=each.finding or None,
                state=wire.member(releases.RequirementState, pb.RequirementState.DESCRIPTOR, each.state),
                explanation=each.explanation,
                evidence_sha256=each.evidence_sha256,
            )
            for each in message.requires
        ),
    )


def _difference(message: pb.PolicyDifference) -> releases.PolicyDifference:
    return releases.PolicyDifference(
        subject=message.subject,
        field=message.field,
        before=message.before if message.HasField("before") else None,
        after=message.after if message.HasField("after") else None,
        effect=wire.member(releases.DifferenceEffect, pb.DifferenceEffect.DESCRIPTOR, message.effect),
        signing=wire.member(releases.DifferenceSigning, pb.DifferenceSigning.DESCRIPTOR, message.signing),
    )


def _access_change(message: pb.AccessChange) -> releases.AccessChange:
    return releases.AccessChange(
        shift=_shift(message.shift),
        caller=wire.member(releases.CallerKind, pb.CallerKind.DESCRIPTOR, message.caller),
        issuer=message.issuer,
        client_id=message.client_id,
        model=message.model,
        action=message.action,
        partner=message.partner,
        agreement=message.agreement or None,
        reason=wire.reason(message.reason),
    )


def _replay(message: pb.Replay) -> releases.Replay:
    return releases.Replay(
        calls=message.calls,
        gained=message.gained,
        lost=message.lost,
        changed=message.changed,
        served=message.served,
        refused=message.refused,
        groups=tuple(
            releases.ReplayGroup(
                shift=_shift(each.shift),
                partner=each.partner,
                client=each.client,
                model=each.model,
                action=each.action,
                reason=each.reason,
                calls=each.calls,
            )
            for each in message.groups
        ),
        groups_left_out=message.groups_left_out,
        undecidable=message.undecidable,
    )


def _shift(number: int) -> releases.AccessShift:
    return wire.member(releases.AccessShift, pb.AccessShift.DESCRIPTOR, number)
