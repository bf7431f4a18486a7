"""The release plan and its history through the wire: who may read them, and that they tell what is in force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import LONG_SECONDS, SMALL, Server, bearer, demo_plan, refusal, serving, until
from signers import DEPLOYMENT, SIGNERS, sign_transitions

from sluicegate.auth import plan_digest
from sluicegate.auth.encoding import encode_base64url
from sluicegate.v1 import model_service_pb2
from sluicegate.v1.release_service_pb2 import (
    GetReleasePlanRequest,
    ListStageTransitionsRequest,
    ListStageTransitionsResponse,
    ReleasePlan,
    Stage,
)
from sluicegate.v1.release_service_pb2_grpc import ReleaseServiceStub
from sluicegate.v1.withdrawal_service_pb2 import CreateWithdrawalRequest, WithdrawalTarget
from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceStub

AUDITOR = bearer(sub="anna", client_id="audit", scope="release:read")
KEYS = [
    {"id": name, "public_key": encode_base64url(key.public_key().public_bytes_raw())} for name, key in SIGNERS.items()
]
SIGNED = {"directory": "policy", "signatures": {"deployment": DEPLOYMENT, "signers": KEYS}, "reload_seconds": 0.02}
"""The setting of a server that checks signatures."""


async def plan_of(server: Server) -> ReleasePlan:
    stub: Any = ReleaseServiceStub(server.channel)
    answer = await stub.GetReleasePlan(GetReleasePlanRequest(), metadata=AUDITOR, timeout=LONG_SECONDS)
    found: ReleasePlan = answer.plan
    return found


def transitions(server: Server, who: Any = AUDITOR, **page: Any) -> Any:
    stub: Any = ReleaseServiceStub(server.channel)
    return stub.ListStageTransitions(ListStageTransitionsRequest(**page), metadata=who, timeout=LONG_SECONDS)


def opened(stage: Stage) -> dict[str, str]:
    names = model_service_pb2.Audience.Name
    return {each.model: names(each.open_to).removeprefix("AUDIENCE_").lower() for each in stage.open}


async def withdraw(server: Server, target: WithdrawalTarget) -> None:
    request = CreateWithdrawalRequest(target=target, justification="a drill")
    stub: Any = WithdrawalServiceStub(server.channel)
    await stub.CreateWithdrawal(request, metadata=bearer(scope="release:withdraw"), timeout=LONG_SECONDS)


def signed_demo_plan(*steps: tuple[str, str], **changes: Any) -> dict[str, Any]:
    """A plan whose every step is signed by two."""
    plan = demo_plan(internal={"clients": []}, active=steps[-1][1], **changes)
    digest, evidence = plan_digest(plan), ["ab" * 32]
    plan["transitions"] = [
        {"from": old, "to": new, "at": "2026-01-03T16:00:00Z", "plan_sha256": digest, "evidence_sha256": evidence}
        for old, new in steps
    ]
    sign_transitions(plan)
    return plan


async def test_the_plan_has_every_stage_in_order_with_what_it_opens_and_asks_for(server: Server) -> None:
    plan = await plan_of(server)

    assert [(stage.id, stage.name) for stage in plan.stages] == [("s1", "small"), ("s2", "medium"), ("s3", "large")]
    assert opened(plan.stages[0]) == {"gpt2-124m": "public", "gpt2-774m": "partner", "gpt2-next": "internal"}
    gate, finding = plan.stages[2].requires
    assert (gate.model, gate.gate, gate.WhichOneof("requirement")) == ("gpt2-774m", "bias", "gate")
    assert (finding.model, finding.finding) == ("gpt2-774m", "example-lab")
    assert plan.active_stage == "s2"
    assert plan.stage_in_force == plan.stages[1]
    assert list(plan.withdrawn_models) == []
    assert not plan.signatures_checked
    assert len(plan.policy_revision) == 64


async def test_a_new_policy_shows_at_once(server: Server) -> None:
    before = await plan_of(server)

    server.write_policy(demo_plan(active="s1"))

    async def changed() -> bool:
        return (await plan_of(server)).active_stage == "s1"

    await until(changed)
    assert (await plan_of(server)).policy_revision != before.policy_revision


async def test_what_operators_closed_shows_beside_what_the_policy_says(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await withdraw(server, WithdrawalTarget(stage="s1"))
        await withdraw(server, WithdrawalTarget(model=SMALL))

        plan = await plan_of(server)

        assert plan.active_stage == "s2"
        assert plan.stage_in_force.id == "s1"
        assert opened(plan.stage_in_force) == opened(plan.stages[0])
        assert list(plan.withdrawn_models) == [SMALL]


async def test_a_stage_that_is_gone_from_the_plan_opens_nothing_while_operators_hold_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await withdraw(server, WithdrawalTarget(stage="s1"))
        plan = demo_plan(transitions=[])
        plan["stages"] = plan["stages"][1:]
        server.write_policy(plan)

        async def shows() -> bool:
            return len((await plan_of(server)).stages) == 2

        await until(shows)
        in_force = (await plan_of(server)).stage_in_force
        assert (in_force.id, opened(in_force)) == ("s1", {})


async def test_without_a_trust_root_no_signature_is_said_to_hold(server: Server) -> None:
    [step] = (await transitions(server)).transitions

    assert (step.sequence, step.from_stage, step.to_stage) == (1, "s1", "s2")
    assert step.transition_time.ToJsonString() == "2026-01-03T16:00:00Z"
    assert step.needs_signatures
    assert not step.HasField("valid_signatures")
    assert (list(step.authors), list(step.evidence_sha256), step.plan_sha256) == ([], [], "")


async def test_valid_signatures_are_counted_for_each_step(tmp_path: Path) -> None:
    plan = signed_demo_plan(("s1", "s2"), ("s2", "s1"), ("s1", "s1"))
    plan["transitions"][1]["signatures"][1] = plan["transitions"][0]["signatures"][1]  # of another step
    async with serving(tmp_path, plan, policy=SIGNED) as server:
        steps = (await transitions(server)).transitions

        assert [(step.from_stage, step.to_stage) for step in steps] == [("s1", "s2"), ("s2", "s1"), ("s1", "s1")]
        assert [step.needs_signatures for step in steps] == [True, False, True]
        assert [step.valid_signatures for step in steps] == [2, 1, 2]
        assert list(steps[0].authors) == ["release-lead", "safety-lead"]
        assert list(steps[0].evidence_sha256) == ["ab" * 32]
        assert steps[0].plan_sha256 == plan["transitions"][0]["plan_sha256"]
        assert (await plan_of(server)).signatures_checked


async def test_a_step_that_needs_none_may_have_one_signature(tmp_path: Path) -> None:
    plan = signed_demo_plan(("s1", "s2"), ("s2", "s1"))
    back = plan["transitions"][1]
    back["by"], back["signatures"] = back["by"][:1], back["signatures"][:1]
    async with serving(tmp_path, plan, policy=SIGNED) as server:
        assert (await transitions(server)).transitions[1].valid_signatures == 1


async def test_another_plan_has_another_history(tmp_path: Path) -> None:
    async with serving(tmp_path, signed_demo_plan(("s1", "s2")), policy=SIGNED) as server:
        assert len((await transitions(server)).transitions) == 1
        server.write_policy(signed_demo_plan(("s1", "s2"), ("s2", "s1")))

        async def grown() -> bool:
            return len((await transitions(server)).transitions) == 2

        await until(grown)


async def test_transitions_come_in_pages(tmp_path: Path) -> None:
    there_and_back = [{"from": "s1", "to": "s2"}, {"from": "s2", "to": "s1"}] * 30
    steps = [{**step, "at": "2026-01-03T16:00:00Z"} for step in there_and_back]
    async with serving(tmp_path, demo_plan(transitions=steps, active="s1")) as server:
        pages: list[ListStageTransitionsResponse] = [await transitions(server)]
        while pages[-1].next_page_token:
            pages.append(await transitions(server, page_size=7, page_token=pages[-1].next_page_token))

        assert [len(each.transitions) for each in pages] == [50, 7, 3]
        assert [step.sequence for each in pages for step in each.transitions] == list(range(1, 61))
        refused = await refusal(transitions(server, page_token="61"))
        assert set(refused.violations) == {"page_token"}


@pytest.mark.parametrize("method", ["GetReleasePlan", "ListStageTransitions"])
@pytest.mark.parametrize(
    ("who", "verdict"),
    [
        (bearer(scope=f"generate:{SMALL} release:withdraw audit:read"), "PERMISSION_DENIED SCOPE_MISSING"),
        (bearer(scope="release:reader"), "PERMISSION_DENIED SCOPE_MISSING"),
        ((), "UNAUTHENTICATED TOKEN_MISSING"),
    ],
    ids=["other scopes", "a longer scope", "no token"],
)
async def test_nobody_else_learns_a_word(server: Server, method: str, who: Any, verdict: str) -> None:
    request = {"GetReleasePlan": GetReleasePlanRequest(), "ListStageTransitions": ListStageTransitionsRequest()}[method]

    call = getattr(ReleaseServiceStub(server.channel), method)(request, metadata=who, timeout=LONG_SECONDS)
    refused = await refusal(call)

    assert refused.verdict == verdict
    assert refused.facts in ({"required_scope": "release:read"}, {})
