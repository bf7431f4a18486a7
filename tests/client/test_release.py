"""The client's calls about the release plan, and how their answers are read."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import grpc
import pytest
from client_server import FakeServer, Refusal
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.client import (
    AccessChange,
    AccessShift,
    Audience,
    CallerKind,
    Client,
    DifferenceEffect,
    DifferenceSigning,
    InvalidRequest,
    PolicyDifference,
    PolicyProblem,
    Replay,
    ReplayGroup,
    ReplayState,
    RequirementState,
    Stage,
    StageRequirement,
    StageTransition,
)
from sluicegate.v1 import model_service_pb2, reason_pb2
from sluicegate.v1 import release_service_pb2 as pb


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (DifferenceEffect, pb.DifferenceEffect.DESCRIPTOR, "DIFFERENCE_EFFECT_"),
        (DifferenceSigning, pb.DifferenceSigning.DESCRIPTOR, "DIFFERENCE_SIGNING_"),
        (AccessShift, pb.AccessShift.DESCRIPTOR, "ACCESS_SHIFT_"),
        (CallerKind, pb.CallerKind.DESCRIPTOR, "CALLER_KIND_"),
        (ReplayState, pb.ReplayState.DESCRIPTOR, "REPLAY_STATE_"),
        (RequirementState, pb.RequirementState.DESCRIPTOR, "REQUIREMENT_STATE_"),
    ],
)
def test_our_enums_are_those_of_the_api(ours: type[StrEnum], theirs: EnumDescriptor, prefix: str) -> None:
    assert [prefix + member.value for member in ours] == [value.name for value in theirs.values]


async def test_the_plan_has_its_stages_and_what_is_in_force(server: FakeServer) -> None:
    stage = pb.Stage(
        id="s2",
        name="medium",
        open=[pb.ModelOpening(model="m", open_to=model_service_pb2.AUDIENCE_PARTNER)],
        requires=[
            pb.StageRequirement(
                model="m", gate="bias", state=pb.REQUIREMENT_STATE_FAILED, explanation="so", evidence_sha256="cd"
            ),
            pb.StageRequirement(model="m", finding="lab"),
        ],
    )
    plan = pb.ReleasePlan(
        policy_revision="ab",
        stages=[stage],
        active_stage="s2",
        stage_in_force=pb.Stage(id="s1"),
        withdrawn_models=["m"],
        signatures_checked=True,
        severely_reported_models=["m"],
    )
    server.will("GetReleasePlan", [pb.GetReleasePlanResponse(plan=plan)])

    async with Client(server.target) as client:
        found = await client.get_release_plan()

    requires = (
        StageRequirement("m", "bias", None, RequirementState.FAILED, "so", "cd"),
        StageRequirement("m", None, "lab", RequirementState.UNSPECIFIED, "", ""),
    )
    assert found.stages == (Stage("s2", "medium", {"m": Audience.PARTNER}, requires),)
    assert (found.active_stage, found.stage_in_force) == ("s2", Stage("s1", "", {}, ()))
    assert (found.policy_revision, found.withdrawn_models, found.signatures_checked) == ("ab", ("m",), True)
    assert found.severely_reported_models == ("m",)


async def test_transitions_of_all_pages_are_one_list(server: FakeServer) -> None:
    first = pb.StageTransition(
        sequence=1,
        from_stage="s1",
        to_stage="s2",
        transition_time=Timestamp(seconds=1_770_000_000),
        authors=["lead"],
        evidence_sha256=["ab"],
        plan_sha256="cd",
        needs_signatures=True,
        valid_signatures=0,
    )
    pages = (
        pb.ListStageTransitionsResponse(transitions=[first], next_page_token="1"),
        pb.ListStageTransitionsResponse(transitions=[pb.StageTransition(sequence=2)]),
    )
    server.will("ListStageTransitions", [pages[0]], [pages[1]])

    async with Client(server.target) as client:
        found = await client.list_stage_transitions()

    assert found[0].time is not None
    assert found[0].time.isoformat() == "2026-02-02T02:40:00+00:00"
    assert found == (
        StageTransition(1, "s1", "s2", found[0].time, ("lead",), ("ab",), "cd", True, 0),
        StageTransition(2, "", "", None, (), (), "", False, None),
    )
    assert [call.asked(pb.ListStageTransitionsRequest).page_token for call in server.calls] == ["", "1"]


async def test_a_simulation_sends_the_files_and_reads_every_part_of_the_answer(server: FakeServer) -> None:
    answer = pb.SimulatePolicyResponse(
        policy_revision="ab",
        proposed_revision="cd",
        opens_wider=True,
        differences=[
            pb.PolicyDifference(
                subject="stage in force",
                before="s1",
                effect=pb.DIFFERENCE_EFFECT_OPENS,
                signing=pb.DIFFERENCE_SIGNING_TRANSITION,
            )
        ],
        differences_left_out=1,
        access_changes=[
            pb.AccessChange(
                shift=pb.ACCESS_SHIFT_LOST,
                caller=pb.CALLER_KIND_CLIENT,
                issuer="i",
                client_id="c",
                model="m",
                action="score",
                partner="lab",
                agreement="agr",
                reason=reason_pb2.REASON_AGREEMENT_EXPIRED,
            )
        ],
        access_changes_left_out=2,
        signatures_checked=True,
        signature_problems=[pb.PolicyProblem(file="release.yaml", field="active", text="no signed transition")],
        replay_state=pb.REPLAY_STATE_PARTIAL,
        replay=pb.Replay(
            calls=21,
            gained=1,
            lost=2,
            changed=3,
            served=4,
            refused=5,
            groups=[pb.ReplayGroup(shift=pb.ACCESS_SHIFT_CHANGED, partner="p", client="c", calls=3, reason="quotas")],
            groups_left_out=6,
            undecidable=7,
        ),
    )
    server.will("SimulatePolicy", [answer])

    async with Client(server.target) as client:
        found = await client.simulate_policy({"release.yaml": b"a: 1", "agreements/a.yaml": b"\xff"})

    files = server.calls[0].asked(pb.SimulatePolicyRequest).files
    assert [(each.name, each.content) for each in files] == [("release.yaml", b"a: 1"), ("agreements/a.yaml", b"\xff")]
    assert (found.policy_revision, found.proposed_revision, found.opens_wider) == ("ab", "cd", True)
    assert found.differences == (
        PolicyDifference("stage in force", "", "s1", None, DifferenceEffect.OPENS, DifferenceSigning.TRANSITION),
    )
    assert found.access_changes == (
        AccessChange(AccessShift.LOST, CallerKind.CLIENT, "i", "c", "m", "score", "lab", "agr", "AGREEMENT_EXPIRED"),
    )
    assert (found.differences_left_out, found.access_changes_left_out) == (1, 2)
    assert found.signature_problems == (PolicyProblem("release.yaml", "active", "no signed transition"),)
    assert found.signatures_checked
    group = ReplayGroup(AccessShift.CHANGED, "p", "c", "", "", "quotas", 3)
    assert (found.replay_state, found.replay) == (ReplayState.PARTIAL, Replay(21, 1, 2, 3, 4, 5, (group,), 6, 7))


@pytest.mark.parametrize(
    ("answer", "is_unchanged"),
    [
        (pb.SimulatePolicyResponse(replay_state=pb.REPLAY_STATE_NO_RECORDS), True),
        (pb.SimulatePolicyResponse(replay=pb.Replay(calls=9, served=4, refused=5)), True),
        (pb.SimulatePolicyResponse(replay=pb.Replay(calls=1, changed=1)), False),
        (pb.SimulatePolicyResponse(differences=[pb.PolicyDifference()]), False),
        (pb.SimulatePolicyResponse(access_changes=[pb.AccessChange()]), False),
    ],
    ids=["nothing", "a replay without change", "a call that changes", "a difference", "a gain"],
)
async def test_unchanged_is_what_differs_in_nothing(
    server: FakeServer, answer: pb.SimulatePolicyResponse, is_unchanged: bool
) -> None:
    server.will("SimulatePolicy", [answer])

    async with Client(server.target) as client:
        assert (await client.simulate_policy({})).is_unchanged is is_unchanged


async def test_a_bad_policy_is_an_invalid_request_with_its_problems(server: FakeServer) -> None:
    refusal = Refusal(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="REQUEST_INVALID",
        violations=[("files[0].content", "release.yaml: active: no such stage")],
    )
    server.will("SimulatePolicy", [refusal])

    async with Client(server.target) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.simulate_policy({"release.yaml": b""})

    [violation] = caught.value.field_violations
    assert violation.description == "release.yaml: active: no such stage"


async def test_a_file_that_no_message_can_carry_is_named_before_anything_is_sent(server: FakeServer) -> None:
    files: Any = {"release.yaml": b"", "agreements/a.yaml": "text"}

    async with Client(server.target) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.simulate_policy(files)

    assert [each.field for each in caught.value.field_violations] == ["files[1].content"]
    assert server.calls == []
