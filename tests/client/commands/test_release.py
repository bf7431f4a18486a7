from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from client_server import FakeServer, Refusal
from client_terminal import sluicegate
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.v1 import model_service_pb2, reason_pb2
from sluicegate.v1 import release_service_pb2 as pb
from sluicegate.v1.withdrawal_service_pb2 import (
    CreateWithdrawalRequest,
    CreateWithdrawalResponse,
    Withdrawal,
    WithdrawalTarget,
)

PUBLIC, PARTNER = model_service_pb2.AUDIENCE_PUBLIC, model_service_pb2.AUDIENCE_PARTNER
SMALL, LARGE = pb.ModelOpening(model="small", open_to=PUBLIC), pb.ModelOpening(model="large", open_to=PARTNER)
FIRST = pb.Stage(id="s1", name="first", open=[SMALL])
SECOND = pb.Stage(
    id="s2",
    name="second",
    open=[SMALL, LARGE],
    requires=[pb.StageRequirement(model="large", gate="bias"), pb.StageRequirement(model="large", finding="lab")],
)
PLAN = pb.ReleasePlan(policy_revision="ab" * 32, stages=[FIRST, SECOND], active_stage="s2", stage_in_force=SECOND)
OPENED = pb.PolicyDifference(
    subject="stage in force",
    before="s1",
    after="s2",
    effect=pb.DIFFERENCE_EFFECT_OPENS,
    signing=pb.DIFFERENCE_SIGNING_TRANSITION,
)
UNCHANGED = pb.SimulatePolicyResponse(replay_state=pb.REPLAY_STATE_NO_RECORDS)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "agreements").mkdir()
    (tmp_path / "release.yaml").write_bytes(b"plan")
    for name in ("b.yml", "a.yaml", "README.md"):
        (tmp_path / "agreements" / name).write_bytes(name.encode())
    return tmp_path


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines() if line.strip()]


def test_the_plan_is_a_table_of_stages_with_what_they_ask_for(server: FakeServer) -> None:
    server.will("GetReleasePlan", [pb.GetReleasePlanResponse(plan=PLAN)])

    result = sluicegate("release", "plan", "--target", server.target)

    assert result.exit_code == 0
    assert rows(result.stdout) == [
        ["model", "s1", "(first)", "s2", "(second)", "now"],
        ["small", "public", "public", "public"],
        ["large", "-", "partner", "partner"],
        ["s2", "requires", "gate", "bias", "for", "large,", "a", "finding", "by", "lab", "for", "large"],
        ["active:", "s2"],
        ["policy", "abababababababab,", "signatures", "are", "not", "checked"],
    ]


def required(
    gate: pb.RequirementState.ValueType, finding: pb.RequirementState.ValueType, explanation: str = ""
) -> pb.ReleasePlan:
    """The plan at its second stage, with how what that one asks for stands."""
    plan = pb.ReleasePlan()
    plan.CopyFrom(PLAN)
    for each, state in zip(plan.stages[1].requires, (gate, finding), strict=True):
        each.state, each.explanation = state, explanation
    plan.stages[1].requires[0].evidence_sha256 = "cd" * 32
    return plan


def test_the_status_says_how_each_requirement_stands(server: FakeServer) -> None:
    plan = required(pb.REQUIREMENT_STATE_FAILED, pb.REQUIREMENT_STATE_UNSPECIFIED, "a.json: worse\x1b[2J")
    server.will("GetReleasePlan", [pb.GetReleasePlanResponse(plan=plan)])

    result = sluicegate("release", "status", "--target", server.target)

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "s1 (first)",
        "  requires nothing",
        "s2 (second) (in force)",
        "  failed    gate bias for large, evidence cdcdcdcdcdcdcdcd",
        "            a.json: worse[2J",
        "  not known a finding by lab for large",
        "            a.json: worse[2J",
    ]


@pytest.mark.parametrize(
    ("gate", "in_force", "code"),
    [
        (pb.REQUIREMENT_STATE_MET, SECOND, 0),
        (pb.REQUIREMENT_STATE_UNSPECIFIED, SECOND, 0),
        (pb.REQUIREMENT_STATE_MISSING, SECOND, 1),
        (pb.REQUIREMENT_STATE_FAILED, FIRST, 0),
        (pb.REQUIREMENT_STATE_FAILED, pb.Stage(id="gone"), 0),
    ],
)
def test_the_status_fails_for_what_the_stage_in_force_rests_on(
    gate: pb.RequirementState.ValueType, in_force: pb.Stage, code: int, server: FakeServer
) -> None:
    plan = required(gate, pb.REQUIREMENT_STATE_MET)
    plan.stage_in_force.CopyFrom(in_force)
    server.will("GetReleasePlan", [pb.GetReleasePlanResponse(plan=plan)])

    result = sluicegate("release", "status", "--json", "--target", server.target)

    assert result.exit_code == code
    assert json.loads(result.stdout)["stages"][1]["requires"][1]["state"] == "MET"


def test_the_status_fails_for_a_severe_finding(server: FakeServer) -> None:
    plan = required(pb.REQUIREMENT_STATE_MET, pb.REQUIREMENT_STATE_MET)
    plan.severely_reported_models.append("large")
    server.will("GetReleasePlan", [pb.GetReleasePlanResponse(plan=plan)])

    result = sluicegate("release", "status", "--target", server.target)

    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "an accepted finding of high or critical severity stands against large"


def test_a_rollback_is_a_withdrawal_and_says_what_to_do_next(server: FakeServer) -> None:
    made = Withdrawal(id="w-1", target=WithdrawalTarget(stage="s1"), justification="Drill.")
    server.will("CreateWithdrawal", [CreateWithdrawalResponse(withdrawal=made)])

    result = sluicegate("release", "rollback", "s1", "--justification", "Drill.", "--target", server.target)

    assert result.exit_code == 0
    assert server.calls[-1].asked(CreateWithdrawalRequest).target == WithdrawalTarget(stage="s1")
    assert result.stdout.splitlines()[-1] == (
        "to have it in the policy as well: sluicegate release advance DIR --trust FILE --to s1"
    )


def test_the_plan_says_what_operators_closed(server: FakeServer) -> None:
    plan = pb.ReleasePlan(
        stages=[FIRST, SECOND],
        active_stage="s2",
        stage_in_force=FIRST,
        withdrawn_models=["small"],
        signatures_checked=True,
    )
    server.will("GetReleasePlan", [pb.GetReleasePlanResponse(plan=plan)])

    result = sluicegate("release", "plan", "--target", server.target)

    assert ["small", "public", "public", "withdrawn"] in rows(result.stdout)
    assert ["large", "-", "partner", "-"] in rows(result.stdout)
    assert "active: s2; operators went back to s1\n" in result.stdout
    assert "signatures are checked" in result.stdout


def test_the_plan_is_one_json_object(server: FakeServer) -> None:
    server.will("GetReleasePlan", [pb.GetReleasePlanResponse(plan=PLAN)])

    result = sluicegate("release", "plan", "--json", "--target", server.target)

    found = json.loads(result.stdout)
    assert (found["active_stage"], found["stages"][1]["open"]) == ("s2", {"small": "PUBLIC", "large": "PARTNER"})


def test_transitions_are_a_table_with_their_signatures(server: FakeServer) -> None:
    at = Timestamp(seconds=1_770_000_000)
    steps = [
        pb.StageTransition(
            sequence=1,
            from_stage="s1",
            to_stage="s2",
            transition_time=at,
            authors=["lead", "safety"],
            evidence_sha256=["ab" * 32],
            needs_signatures=True,
            valid_signatures=2,
        ),
        pb.StageTransition(sequence=2, from_stage="s2", to_stage="s1", valid_signatures=0),
        pb.StageTransition(sequence=3, from_stage="s1", to_stage="s2", needs_signatures=True),
    ]
    server.will("ListStageTransitions", [pb.ListStageTransitionsResponse(transitions=steps)])

    result = sluicegate("release", "transitions", "--target", server.target)

    assert rows(result.stdout)[1:] == [
        ["1", "s1", "->", "s2", "2026-02-02", "02:40:00", "UTC", "lead,", "safety", "2", "valid", "abababababababab"],
        ["2", "s2", "->", "s1", "none", "needed"],
        ["3", "s1", "->", "s2", "not", "checked"],
    ]


def test_a_plan_without_history_says_so(server: FakeServer) -> None:
    server.will("ListStageTransitions", [pb.ListStageTransitionsResponse()])

    words = sluicegate("release", "transitions", "--target", server.target)
    data = sluicegate("release", "transitions", "--json", "--target", server.target)

    assert (words.stdout, data.stdout) == ("no transition is recorded\n", "[]\n")


def test_a_simulation_sends_the_files_of_the_directory(server: FakeServer, policy: Path) -> None:
    server.will("SimulatePolicy", [UNCHANGED])

    result = sluicegate("release", "simulate", policy, "--target", server.target)

    sent = server.calls[0].asked(pb.SimulatePolicyRequest).files
    assert [(each.name, each.content) for each in sent] == [
        ("release.yaml", b"plan"),
        ("agreements/a.yaml", b"a.yaml"),
        ("agreements/b.yml", b"b.yml"),
    ]
    assert (result.exit_code, result.stdout) == (0, "No difference.\n")


def test_a_simulation_tells_differences_and_who_gains_and_loses(server: FakeServer, policy: Path) -> None:
    changes = [
        pb.AccessChange(
            shift=pb.ACCESS_SHIFT_GAINED,
            caller=pb.CALLER_KIND_PUBLIC,
            model="large",
            action="generate",
            partner="public",
            reason=reason_pb2.REASON_MODEL_NOT_RELEASED,
        ),
        pb.AccessChange(
            shift=pb.ACCESS_SHIFT_LOST,
            caller=pb.CALLER_KIND_CLIENT,
            issuer="https://issuer.example",
            client_id="lab-app\x1b[2J\n",
            model="xl",
            action="score",
            partner="lab",
            agreement="agr-1",
            reason=reason_pb2.REASON_AGREEMENT_NOT_ACTIVE,
        ),
    ]
    closed = pb.PolicyDifference(
        subject="agreement agr-1", field="status", before="active", effect=pb.DIFFERENCE_EFFECT_CLOSES
    )
    answer = pb.SimulatePolicyResponse(
        opens_wider=True,
        differences=[closed, OPENED],
        differences_left_out=3,
        access_changes=changes,
        access_changes_left_out=4,
        signatures_checked=True,
        signature_problems=[pb.PolicyProblem(file="release.yaml", field="active", text="no signed transition")],
        replay_state=pb.REPLAY_STATE_NO_RECORDS,
    )
    server.will("SimulatePolicy", [answer])

    result = sluicegate("release", "simulate", policy, "--target", server.target)

    assert result.exit_code == 1
    assert rows(result.stdout) == [
        ["opens", "stage", "in", "force:", "s1", "->", "s2"],
        ["closes", "agreement", "agr-1:", "status:", "-", "active"],
        ["and", "3", "more", "differences"],
        ["Opens", "wider."],
        [
            "Needs",
            "a",
            "transition",
            "signed",
            "by",
            "as",
            "many",
            "signers",
            "as",
            "the",
            "server's",
            "settings",
            "say.",
        ],
        ["caller", "action", "model", "as", "refused", "for"],
        ["gained", "everybody", "else", "with", "a", "token", "generate", "large", "public", "MODEL_NOT_RELEASED"],
        ["lost", "lab-app[2J", "of", "https://issuer.example", "score", "xl", "lab", "(agr-1)", "AGREEMENT_NOT_ACTIVE"],
        ["and", "4", "more", "gains", "and", "losses"],
        ["No", "calls", "are", "on", "record:", "the", "policies", "alone", "were", "compared."],
        ["Not", "to", "be", "taken", "over", "yet:", "release.yaml:", "active:", "no", "signed", "transition"],
    ]


def test_a_difference_may_be_nobody_s_gain_or_loss(server: FakeServer, policy: Path) -> None:
    records = pb.PolicyDifference(subject="stages", after="s9", effect=pb.DIFFERENCE_EFFECT_RECORDS)
    answer = pb.SimulatePolicyResponse(differences=[records], replay_state=pb.REPLAY_STATE_NO_RECORDS)
    server.will("SimulatePolicy", [answer])

    result = sluicegate("release", "simulate", policy, "--target", server.target)

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "records  stages: + s9",
        "Opens nothing.",
        "Nobody gains or loses a model.",
        "No calls are on record: the policies alone were compared.",
    ]


@pytest.mark.parametrize(
    ("state", "first"),
    [
        (pb.REPLAY_STATE_COMPLETE, "1,200 calls on record:"),
        (pb.REPLAY_STATE_PARTIAL, "1,200 of the calls on record:"),
    ],
)
def test_a_replay_is_told_by_its_totals_and_groups(
    server: FakeServer, policy: Path, state: pb.ReplayState.ValueType, first: str
) -> None:
    group = pb.ReplayGroup(
        shift=pb.ACCESS_SHIFT_LOST, partner="public", model="m", action="score", reason="SCOPE_MISSING", calls=1_200
    )
    replay = pb.Replay(calls=1_200, lost=1_200, groups=[group] * 51, groups_left_out=2, undecidable=9)
    server.will("SimulatePolicy", [pb.SimulatePolicyResponse(replay_state=state, replay=replay)])

    result = sluicegate("release", "simulate", policy, "--target", server.target)

    assert result.exit_code == 1
    assert f"{first} 0 gained, 1,200 lost, 0 changed, 0 served, 0 refused\n" in result.stdout
    assert ["1,200", "lost", "public", "(no", "token)", "score", "m", "SCOPE_MISSING"] in rows(result.stdout)
    assert "and 9 whose records tell too little to decide them again\n" in result.stdout
    assert result.stdout.endswith("and 3 more smaller groups\n")


def test_a_simulation_is_one_json_object_with_the_same_exit_code(server: FakeServer, policy: Path) -> None:
    server.will("SimulatePolicy", [pb.SimulatePolicyResponse(differences=[OPENED])], [UNCHANGED])

    changed, same = (sluicegate("release", "simulate", policy, "--json", "--target", server.target) for _ in range(2))

    assert (changed.exit_code, json.loads(changed.stdout)["differences"][0]["effect"]) == (1, "OPENS")
    assert (same.exit_code, json.loads(same.stdout)["replay_state"]) == (0, "NO_RECORDS")


def bad(violations: Sequence[tuple[str, str]], **metadata: str) -> Refusal:
    code = grpc.StatusCode.INVALID_ARGUMENT
    return Refusal(code=code, reason="REQUEST_INVALID", violations=violations, metadata=metadata)


def test_a_bad_policy_is_told_problem_by_problem(server: FakeServer, policy: Path) -> None:
    violations = [("files[0].content", "release.yaml: active: no such stage"), ("files[1].name", "is no name")]
    server.will("SimulatePolicy", [bad(violations, problems="7")])

    result = sluicegate("release", "simulate", policy, "--target", server.target)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "release.yaml: active: no such stage",
        "agreements/a.yaml: its name: is no name",
        "2 of 7 problem(s); the server would keep the policy that it has",
    ]


def test_a_fault_of_the_request_that_is_none_of_the_policy_s_stays_one(server: FakeServer, policy: Path) -> None:
    server.will("SimulatePolicy", [bad([("x-forwarded-for", "is no address")])])

    result = sluicegate("release", "simulate", policy, "--target", server.target)

    assert result.exit_code == 1
    assert "x-forwarded-for: is no address" in result.stderr


@pytest.mark.parametrize("command", [("plan",), ("transitions",), ("simulate", ".")])
def test_a_caller_without_the_scope_is_told_which(
    server: FakeServer, policy: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(policy)
    refused = Refusal(
        code=grpc.StatusCode.PERMISSION_DENIED, reason="SCOPE_MISSING", metadata={"required_scope": "release:read"}
    )
    for method in ("GetReleasePlan", "ListStageTransitions", "SimulatePolicy"):
        server.will(method, [refused])

    result = sluicegate("release", *command, "--target", server.target)

    assert result.exit_code == 4
    assert "get a token that has the scope `release:read`" in result.stderr


@pytest.mark.parametrize("large", [False, True])
def test_a_directory_that_is_no_policy_is_wrong_usage(server: FakeServer, tmp_path: Path, large: bool) -> None:
    if large:
        (tmp_path / "release.yaml").write_bytes(b"#" * 262_145)

    result = sluicegate("release", "simulate", tmp_path, "--target", server.target)

    assert result.exit_code == 2
    assert ("is larger than 262144 bytes" if large else "cannot be read: No such file or directory") in result.stderr
    assert server.calls == []
