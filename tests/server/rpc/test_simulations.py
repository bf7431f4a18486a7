"""SimulatePolicy through the wire: what it answers, whom it answers, and what it takes from strangers' files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness import LONG_SECONDS, SMALL, Server, bearer, demo_plan, open_agreement, refusal, serving
from issuer import ISSUER
from policies import contents
from signers import DEPLOYMENT, SIGNERS

from sluicegate.auth.access_changes import AccessChanges
from sluicegate.auth.comparing import Comparison, compare
from sluicegate.auth.encoding import encode_base64url
from sluicegate.auth.loading import parse_policy
from sluicegate.auth.simulation import Group, Shift, Tally
from sluicegate.server.rpc import simulations
from sluicegate.server.simulating import Replay, Simulation
from sluicegate.v1 import reason_pb2
from sluicegate.v1 import release_service_pb2 as pb
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest
from sluicegate.v1.release_service_pb2_grpc import ReleaseServiceStub
from sluicegate.v1.withdrawal_service_pb2 import CreateWithdrawalRequest, WithdrawalTarget
from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceStub

AUDITOR = bearer(sub="anna", client_id="audit", scope="release:read")
SAME = contents(demo_plan(), open_agreement())
LATER = contents(demo_plan(active="s3"), open_agreement(status="suspended", models=["gpt2-124m", "gpt2-1558m"]))


def ask(server: Server, files: Mapping[str, bytes] | Iterable[tuple[str, bytes]], who: Any = AUDITOR) -> Any:
    pairs = files.items() if isinstance(files, Mapping) else files
    request = pb.SimulatePolicyRequest(files=[pb.PolicyFile(name=name, content=content) for name, content in pairs])
    stub: Any = ReleaseServiceStub(server.channel)
    return stub.SimulatePolicy(request, metadata=who, timeout=LONG_SECONDS)


def generate(server: Server, who: Any, model: str = SMALL) -> Any:
    """A call for the audit log. Refusals are written without waiting, but before what is served after them."""
    request = GenerateRequest(model=model, text="a", config=GenerationConfig(max_output_tokens=1))
    return server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)


@pytest.fixture
async def partnered(tmp_path: Path) -> Any:
    async with serving(tmp_path, demo_plan(), [open_agreement(models=["gpt2-774m", "gpt2-1558m"])]) as server:
        yield server


async def test_gains_and_losses_are_told_caller_by_caller(partnered: Server) -> None:
    answer = await ask(partnered, LATER)

    told = [
        (each.shift, each.caller, each.client_id, each.model, each.action)
        for each in answer.access_changes
        if each.action == "generate"
    ]
    assert told == [
        (pb.ACCESS_SHIFT_GAINED, pb.CALLER_KIND_PUBLIC, "", "gpt2-774m", "generate"),
        (pb.ACCESS_SHIFT_LOST, pb.CALLER_KIND_CLIENT, "lab-app", "gpt2-1558m", "generate"),
    ]
    [lost] = [each for each in answer.access_changes if each.caller == pb.CALLER_KIND_CLIENT and each.action == "score"]
    assert (lost.issuer, lost.partner, lost.agreement) == (ISSUER, "example-lab", "agr-example-lab")
    assert lost.reason == reason_pb2.REASON_AGREEMENT_NOT_ACTIVE
    assert answer.access_changes_left_out == 0


async def test_differences_are_those_that_policy_diff_shows(partnered: Server) -> None:
    before = contents(demo_plan(), open_agreement(models=["gpt2-774m", "gpt2-1558m"]))
    expected = compare(parse_policy(Path(), before, None), parse_policy(Path(), LATER, None)).differences

    answer = await ask(partnered, LATER)

    effect, signing = pb.DifferenceEffect.Name, pb.DifferenceSigning.Name
    assert [
        (
            each.subject,
            each.field,
            each.before if each.HasField("before") else None,
            each.after if each.HasField("after") else None,
            effect(each.effect).removeprefix("DIFFERENCE_EFFECT_").lower(),
            signing(each.signing).removeprefix("DIFFERENCE_SIGNING_").lower(),
        )
        for each in answer.differences
    ] == [(each.subject, each.field, each.before, each.after, each.effect, each.signing) for each in expected]
    assert answer.opens_wider
    assert answer.differences_left_out == 0


async def test_without_an_audit_log_it_says_that_no_calls_are_on_record(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [open_agreement()], audit="off") as server:
        answer = await ask(server, LATER)

    assert answer.replay_state == pb.REPLAY_STATE_NO_RECORDS
    assert not answer.HasField("replay")


async def test_the_same_policy_changes_nothing_and_nothing_is_taken_over(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [open_agreement()]) as server:
        same = await ask(server, SAME)
        await ask(server, LATER)
        again = await ask(server, SAME)

        assert same == again
        assert same.policy_revision == same.proposed_revision
        assert (list(same.differences), list(same.access_changes), same.opens_wider) == ([], [], False)


async def test_what_operators_closed_stays_closed_under_any_policy(partnered: Server) -> None:
    stub: Any = WithdrawalServiceStub(partnered.channel)
    request = CreateWithdrawalRequest(target=WithdrawalTarget(stage="s1"), justification="a drill")
    await stub.CreateWithdrawal(request, metadata=bearer(scope="release:withdraw"), timeout=LONG_SECONDS)

    answer = await ask(partnered, contents(demo_plan(active="s3"), open_agreement(models=["gpt2-774m", "gpt2-1558m"])))

    assert list(answer.access_changes) == []
    [stage, opened] = answer.differences
    assert (stage.subject, stage.before, stage.after) == ("stage in force", "s2", "s3")
    assert opened.signing == pb.DIFFERENCE_SIGNING_TRANSITION


async def test_an_unsigned_policy_is_compared_and_told_what_it_lacks(tmp_path: Path) -> None:
    keys = {name: encode_base64url(key.public_key().public_bytes_raw()) for name, key in SIGNERS.items()}
    trust = {"deployment": DEPLOYMENT, "signers": [{"id": name, "public_key": key} for name, key in keys.items()]}
    settings = {"directory": "policy", "signatures": trust, "reload_seconds": 0.02}
    plan = demo_plan(active="s1", transitions=[], internal={"clients": []})
    async with serving(tmp_path, plan, policy=settings) as server:
        answer = await ask(server, contents({**plan, "active": "s2"}))

        assert answer.signatures_checked
        assert [(each.file, each.field) for each in answer.signature_problems] == [("release.yaml", "active")]
        assert {each.model for each in answer.access_changes} == {"gpt2-355m"}


async def test_problems_come_as_violations_of_their_files(server: Server) -> None:
    files = [
        ("agreements/a.yaml", contents(None, open_agreement(models=["gpt2-9"]))["agreements/0.yaml"]),
        ("release.yaml", contents(demo_plan(active="s9"))["release.yaml"]),
    ]

    refused = await refusal(ask(server, files))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert refused.facts == {"problems": "2"}
    assert refused.violations == {
        "files[0].content": "agreements/a.yaml: models.0: no such model as gpt2-9 in release.yaml",
        "files[1].content": "release.yaml: active: no such stage; the plan has s1, s2, s3",
    }


async def test_problems_arrive_however_long_and_many_they_are(server: Server) -> None:
    keys = "".join(f'"{number} {chr(0x1F600) * 230}": 1\n' for number in range(100))

    refused = await refusal(ask(server, {"release.yaml": keys.encode()}))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert int(refused.facts["problems"]) > 100
    assert set(refused.violations) == {"files[0].content"}


GOOD = SAME["release.yaml"]
LARGE = b"a: [" + b"a," * ((256 * 1024 - 5) // 2) + b"]"
BOMB = b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" + GOOD
HOSTILE: dict[str, tuple[list[tuple[str, bytes]], str, str]] = {
    "no plan": ([("agreements/a.yaml", b"id: x")], "files", "release.yaml: is missing"),
    "huge list": ([("release.yaml", LARGE)], "files[0].content", "release.yaml: a: is not known here"),
    "together too much": (
        [("release.yaml", GOOD), ("agreements/a.yaml", b"#" * 262_144)],
        "files",
        "have at most 262144 bytes together",
    ),
    "alias bomb": ([("release.yaml", BOMB)], "files[0].content", "release.yaml: line 2: aliases are not used here"),
    "not UTF-8": ([("release.yaml", b"\xff\xfe")], "files[0].content", "release.yaml: is not UTF-8"),
    "no YAML": ([("release.yaml", b"a: [")], "files[0].content", "release.yaml: line 1: "),
    "empty": ([("release.yaml", b"")], "files[0].content", "release.yaml: must be a mapping"),
    "nested": ([("release.yaml", b"[" * 100_000)], "files[0].content", "release.yaml: is nested more than 12"),
    "tag": ([("release.yaml", b"a: !!python/name:os.system x")], "files[0].content", "release.yaml: line 1: tags"),
    "the same name twice": ([("release.yaml", GOOD)] * 2, "files[1].name", "stands here once"),
    "millions of combinations": (
        [
            ("release.yaml", GOOD),
            (
                "agreements/a.yaml",
                contents(
                    None,
                    open_agreement(
                        clients=[{"issuer": "i", "client": str(number)} for number in range(4_000)],
                        models=[f"m{number}" for number in range(4_000)],
                    ),
                )["agreements/0.yaml"],
            ),
        ],
        "files",
        "agreements: cover more than 100000 combinations",
    ),
}


@pytest.mark.parametrize(("files", "place", "text"), HOSTILE.values(), ids=HOSTILE)
async def test_hostile_files_are_refused_with_their_place_and_the_server_goes_on(
    server: Server, files: list[tuple[str, bytes]], place: str, text: str
) -> None:
    refused = await refusal(ask(server, files))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert refused.violations[place].startswith(text)
    assert (await ask(server, contents(demo_plan()))).policy_revision


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../release.yaml",
        "agreements/../release.yaml",
        "agreements/..yaml",
        "agreements/a/b.yaml",
        "agreements/a.yaml\n",
        "agreements/a.yaml\0",
        "agreements/a.txt",
        "agreements/" + "a" * 200 + ".yaml",
        "Release.yaml",
        "release.yaml/",
        "agreements\\a.yaml",
        "agreements/ä.yaml",
    ],
)
async def test_a_name_that_is_no_policy_file_s_is_refused(server: Server, name: str) -> None:
    refused = await refusal(ask(server, [("release.yaml", GOOD), (name, b"id: x")]))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert set(refused.violations) == {"files[1].name"}


@pytest.mark.parametrize("count", [0, 257])
async def test_there_are_some_files_and_not_too_many(server: Server, count: int) -> None:
    refused = await refusal(ask(server, [(f"agreements/{number}.yaml", b"") for number in range(count)]))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert set(refused.violations) == {"files"}


async def test_a_source_or_a_time_zone_is_never_looked_for_on_disk(server: Server, tmp_path: Path) -> None:
    plan = demo_plan()
    plan["models"][SMALL]["source"] = str(tmp_path / "nowhere")
    files = contents(plan, open_agreement(timezone="../../../../etc/passwd"))

    refused = await refusal(ask(server, files))

    assert list(refused.violations.values()) == [
        "agreements/0.yaml: timezone: write a time zone of the IANA database, as America/New_York"
    ]


@pytest.mark.parametrize("files", [SAME, {"release.yaml": b"["}, {"/etc/passwd": b""}], ids=["good", "bad", "name"])
@pytest.mark.parametrize(
    "who", [bearer(scope=f"generate:{SMALL} release:withdraw audit:read"), ()], ids=["scope", "token"]
)
async def test_nobody_else_learns_a_word(server: Server, files: Mapping[str, bytes], who: Any) -> None:
    refused = await refusal(ask(server, files, who))

    assert refused.verdict in ("PERMISSION_DENIED SCOPE_MISSING", "UNAUTHENTICATED TOKEN_MISSING")
    assert refused.violations == {}


async def test_an_answer_stays_small_however_much_differs(server: Server) -> None:
    plan = demo_plan()
    plan["stages"] += [{"id": f"x{number}", "name": "x" * 60, "open": {}} for number in range(1_500)]
    plan["models"][SMALL]["description"] = "ä" * 4_000

    answer = await ask(server, contents(plan))

    assert len(answer.differences) == 500
    assert answer.differences_left_out == 1_001
    assert max(len(each.after) for each in answer.differences) <= 300


async def test_a_long_text_is_cut_and_shows_that_it_is(server: Server) -> None:
    plan = demo_plan()
    plan["models"][SMALL]["description"] = "ä" * 4_000

    [difference] = (await ask(server, contents(plan))).differences

    assert difference.after == "ä" * 299 + "…"


async def test_calls_of_the_audit_log_are_replayed_the_partners_by_name(partnered: Server) -> None:
    partner = bearer(client_id="lab-app", scope=f"generate:gpt2-774m generate:{SMALL}")
    await refusal(generate(partnered, partner, "gpt2-774m"))
    await refusal(generate(partnered, bearer(), "gpt2-9"))
    await generate(partnered, bearer())
    await generate(partnered, bearer())  # the refusals are on the disk by then, since it was served after them

    answer = await ask(partnered, contents(demo_plan(), open_agreement(status="suspended")))

    assert answer.replay_state == pb.REPLAY_STATE_COMPLETE
    assert (answer.replay.calls, answer.replay.undecidable) == (3, 1)
    [group] = answer.replay.groups
    assert (group.shift, group.partner, group.calls) == (pb.ACCESS_SHIFT_LOST, "example-lab", 1)
    assert "lab-app" in str(group)


async def test_a_name_of_the_proposed_policy_is_given_back_to_nobody(partnered: Server) -> None:
    """Else its proposer could try out names, with the log's secret."""
    await refusal(generate(partnered, bearer(client_id="tried"), "gpt2-next"))
    await generate(partnered, bearer())
    plan = demo_plan(internal={"clients": [{"issuer": ISSUER, "client": "tried"}]})

    answer = await ask(partnered, contents(plan, open_agreement(models=["gpt2-774m", "gpt2-1558m"])))

    assert answer.replay.calls == 2
    assert list(answer.replay.groups) == []


async def test_a_call_with_a_name_that_no_policy_could_have_stops_no_replay(partnered: Server) -> None:
    details = [{"type": "model_partnership", "agreement": "Not A Slug"}]
    await refusal(generate(partnered, bearer(authorization_details=details)))
    await generate(partnered, bearer())

    answer = await ask(partnered, SAME)

    assert (answer.replay.calls, answer.replay.undecidable) == (1, 1)


def test_a_replay_is_told_by_its_counts_and_its_largest_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulations, "MAX_GROUPS", 1)
    tally = Tally()
    lost = Group(Shift.LOST, "example-lab", f"lab-app of {ISSUER}", "gpt2-774m", "generate", "AGREEMENT_NOT_ACTIVE")
    changed = Group(Shift.CHANGED, "public", "", "gpt2-124m", "score", "quotas")
    for group in (changed, lost, lost, Group(Shift.SERVED, "public", "", "gpt2-124m", "score", "")):
        tally.add(group)

    complete, partial = (
        simulations.simulation(simulation_with(Replay(tally, 3, is_partial=cut))) for cut in (False, True)
    )

    assert complete.replay_state == pb.REPLAY_STATE_COMPLETE
    assert partial.replay_state == pb.REPLAY_STATE_PARTIAL
    assert complete.replay == pb.Replay(
        calls=4,
        lost=2,
        changed=1,
        served=1,
        groups=[
            pb.ReplayGroup(
                shift=pb.ACCESS_SHIFT_LOST,
                partner="example-lab",
                client=f"lab-app of {ISSUER}",
                model="gpt2-774m",
                action="generate",
                reason="AGREEMENT_NOT_ACTIVE",
                calls=2,
            )
        ],
        groups_left_out=1,
        undecidable=3,
    )


def simulation_with(replay: Replay) -> Simulation:
    return Simulation("a", "b", Comparison(()), AccessChanges((), 0), False, (), replay)
