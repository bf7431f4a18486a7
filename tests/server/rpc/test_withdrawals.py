"""Withdrawals through the wire: what is closed is closed for new calls and running ones, and who may open it again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from harness import (
    AUDIT,
    LONG_SECONDS,
    METRICS,
    SMALL,
    Server,
    bearer,
    connected,
    delete_state,
    demo_plan,
    open_agreement,
    refusal,
    serving,
    until,
)
from issuer import ISSUER, KEY, NOW

from sluicegate.auth import LEEWAY_SECONDS, lifting_payload, sign
from sluicegate.auth.encoding import encode_base64url
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest, StreamGenerateRequest
from sluicegate.v1.model_service_pb2 import WatchModelsRequest
from sluicegate.v1.withdrawal_service_pb2 import (
    ClientTarget,
    CreateWithdrawalRequest,
    IssuedBeforeTarget,
    KeyTarget,
    LiftingSignature,
    LiftWithdrawalRequest,
    ListWithdrawalsRequest,
    ListWithdrawalsResponse,
    SubjectTarget,
    TokenTarget,
    Withdrawal,
    WithdrawalTarget,
)
from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceStub

OPERATOR = bearer(sub="olga", client_id="operations", jti="olga-1", scope="release:withdraw")
STRANGER, PARTNER = bearer(), bearer(client_id="lab-app")


def service(server: Server) -> Any:
    return WithdrawalServiceStub(server.channel)


async def withdraw(server: Server, target: WithdrawalTarget, **options: Any) -> Withdrawal:
    request = CreateWithdrawalRequest(target=target, justification="a drill", **options)
    answer = await service(server).CreateWithdrawal(request, metadata=OPERATOR, timeout=LONG_SECONDS)
    made: Withdrawal = answer.withdrawal
    return made


async def listed(server: Server) -> ListWithdrawalsResponse:
    answer: ListWithdrawalsResponse = await service(server).ListWithdrawals(
        ListWithdrawalsRequest(), metadata=OPERATOR, timeout=LONG_SECONDS
    )
    return answer


def lift(server: Server, id_: str, *signatures: LiftingSignature) -> Any:
    request = LiftWithdrawalRequest(id=id_, justification="the drill is over", signatures=signatures)
    return service(server).LiftWithdrawal(request, metadata=OPERATOR, timeout=LONG_SECONDS)


def generate(server: Server, who: Any = STRANGER, model: str = SMALL) -> Any:
    request = GenerateRequest(model=model, text="a", config=GenerationConfig(max_output_tokens=1))
    return server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)


async def begun(server: Server, who: Any = STRANGER, model: str = SMALL) -> Any:
    """A stream that has begun and waits for its engine."""
    server.engine.pause_after(2)
    request = StreamGenerateRequest(model=model, text="a", config=GenerationConfig(max_output_tokens=100))
    call = server.generation.StreamGenerate(request, metadata=who, timeout=LONG_SECONDS)
    await call.read()
    return call


TOKEN, CALLER = "UNAUTHENTICATED TOKEN_WITHDRAWN", "PERMISSION_DENIED CALLER_WITHDRAWN"
BEFORE = IssuedBeforeTarget(issuer=ISSUER, client_id="app")
BEFORE.time.FromSeconds(NOW + 1)
TARGETS: list[tuple[str, WithdrawalTarget, str]] = [
    ("token", WithdrawalTarget(token=TokenTarget(issuer=ISSUER, token_id="token-1")), TOKEN),
    ("key", WithdrawalTarget(key=KeyTarget(issuer=ISSUER, key_id=KEY.key_id)), TOKEN),
    ("issued before", WithdrawalTarget(issued_before=BEFORE), TOKEN),
    ("client", WithdrawalTarget(client=ClientTarget(issuer=ISSUER, client_id="app")), CALLER),
    ("subject", WithdrawalTarget(subject=SubjectTarget(issuer=ISSUER, subject="alice")), CALLER),
    ("model", WithdrawalTarget(model=SMALL), "PERMISSION_DENIED MODEL_WITHDRAWN"),
]


@pytest.mark.parametrize(("target", "verdict"), [pytest.param(*case[1:], id=case[0]) for case in TARGETS])
async def test_what_is_withdrawn_ends_running_calls_and_refuses_new_ones(
    tmp_path: Path, target: WithdrawalTarget, verdict: str
) -> None:
    async with serving(tmp_path) as server:
        running = await begun(server)

        await withdraw(server, target)

        ended = await refusal(running)
        server.engine.resume()
        assert ended.verdict == verdict
        assert ended.usage is not None
        assert (await refusal(generate(server))).verdict == verdict


async def test_an_agreement_that_is_withdrawn_ends_its_streams_and_no_others(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()]) as server:
        running = await begun(server, PARTNER)

        await withdraw(server, WithdrawalTarget(agreement="agr-example-lab"))

        ended = await refusal(running)
        server.engine.resume()
        served = await generate(server)
        assert ended.verdict == "PERMISSION_DENIED AGREEMENT_WITHDRAWN"
        assert served.usage.output_tokens == 1


async def test_a_stage_gone_back_from_closes_what_it_had_opened(tmp_path: Path) -> None:
    hosted = {"gpt2-355m": {"device": "cpu"}}
    async with serving(tmp_path, models=hosted) as server:
        await generate(server, model="gpt2-355m")

        made = await withdraw(server, WithdrawalTarget(stage="s1"))

        refused = await refusal(generate(server, model="gpt2-355m"))
        await lift(server, made.id)
        served = await generate(server, model="gpt2-355m")
        assert refused.verdict == "PERMISSION_DENIED MODEL_NOT_RELEASED"
        assert served.usage.output_tokens == 1


async def test_the_metrics_tell_the_stage_that_is_in_force(tmp_path: Path) -> None:
    async with serving(tmp_path, metrics=METRICS) as server:
        before = await stages_shown(server)

        await withdraw(server, WithdrawalTarget(stage="s1"))

        assert before == ["s2"]
        assert await stages_shown(server) == ["s1"]


async def stages_shown(server: Server) -> list[str]:
    shown = [name for name in await server.metrics() if name.startswith("sluicegate_policy_info{")]
    return [name.split('stage="')[1].split('"')[0] for name in shown]


async def test_a_token_stays_closed_until_no_clock_takes_it_any_more(tmp_path: Path) -> None:
    longest = 3_600 + LEEWAY_SECONDS  # one issued just now by a clock that runs ahead
    async with serving(tmp_path) as server:
        made = await withdraw(server, WithdrawalTarget(token=TokenTarget(issuer=ISSUER, token_id="token-1")))

        assert made.expire_time.seconds == NOW + longest


async def test_a_part_of_a_second_closes_the_whole_one(tmp_path: Path) -> None:
    before = IssuedBeforeTarget(issuer=ISSUER)
    before.time.FromMilliseconds(NOW * 1_000 + 1)
    async with serving(tmp_path) as server:
        made = await withdraw(server, WithdrawalTarget(issued_before=before), validate_only=True)

        assert made.target.issued_before.time.seconds == NOW + 1


async def test_another_replica_learns_of_it_by_itself(tmp_path: Path) -> None:
    state = {"url": f"sqlite:////{tmp_path}/shared.db"}
    async with (
        serving(tmp_path / "one", state=state) as one,
        serving(tmp_path / "two", state=state, audit={**AUDIT, "replica": "gate-1"}) as two,
    ):
        running = await begun(two)

        await withdraw(one, WithdrawalTarget(model=SMALL))

        ended = await refusal(running)
        assert ended.verdict == "PERMISSION_DENIED MODEL_WITHDRAWN"


async def test_a_withdrawal_outlives_the_server_until_it_is_lifted(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        made = await withdraw(server, WithdrawalTarget(client=ClientTarget(issuer=ISSUER, client_id="app")))
    async with serving(tmp_path) as server:
        [entry] = (await listed(server)).withdrawals
        refused = await refusal(generate(server))

        await lift(server, made.id)

        served = await generate(server)
        assert entry == made
        assert (entry.justification, entry.operator) == ("a drill", f"olga of {ISSUER}")
        assert entry.create_time.seconds == NOW
        assert refused.verdict == "PERMISSION_DENIED CALLER_WITHDRAWN"
        assert served.usage.output_tokens == 1
        assert list((await listed(server)).withdrawals) == []


async def test_validation_alone_closes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await withdraw(server, WithdrawalTarget(model=SMALL), validate_only=True)

        served = await generate(server)

        assert served.usage.output_tokens == 1
        assert list((await listed(server)).withdrawals) == []


@pytest.mark.parametrize(
    ("target", "field"),
    [
        (WithdrawalTarget(model="gpt2-124"), "target.model"),
        (WithdrawalTarget(agreement="agr-none"), "target.agreement"),
        (WithdrawalTarget(stage="s9"), "target.stage"),
        (WithdrawalTarget(stage="s2"), "target.stage"),
        (WithdrawalTarget(stage="s3"), "target.stage"),
    ],
    ids=["model", "agreement", "stage", "active stage", "later stage"],
)
async def test_a_slip_in_a_name_does_not_look_like_a_closed_door(
    server: Server, target: WithdrawalTarget, field: str
) -> None:
    request = CreateWithdrawalRequest(target=target, justification="a drill")

    refused = await refusal(service(server).CreateWithdrawal(request, metadata=OPERATOR, timeout=LONG_SECONDS))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert set(refused.violations) == {field}


async def test_lifting_what_is_not_there_says_so(server: Server) -> None:
    refused = await refusal(lift(server, "no-such-withdrawal"))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert set(refused.violations) == {"id"}


Ask = Callable[[Any, Any], Any]


@pytest.mark.parametrize(
    "ask",
    [
        lambda stub, who: stub.CreateWithdrawal(
            CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification="x"), metadata=who
        ),
        lambda stub, who: stub.ListWithdrawals(ListWithdrawalsRequest(), metadata=who),
        lambda stub, who: stub.LiftWithdrawal(LiftWithdrawalRequest(id="x", justification="x"), metadata=who),
    ],
    ids=["create", "list", "lift"],
)
async def test_only_operators_may(server: Server, ask: Ask) -> None:
    everything = bearer(scope=f"generate:{SMALL} release:read audit:read engine:manage")

    refused = await refusal(ask(service(server), everything))

    assert refused.verdict == "PERMISSION_DENIED SCOPE_MISSING"
    assert refused.facts == {"required_scope": "release:withdraw"}


async def test_lifting_what_opens_wider_needs_two_different_signers(tmp_path: Path) -> None:
    keys = {name: Ed25519PrivateKey.generate() for name in ("release-lead", "safety-lead")}
    signers = [
        {"id": name, "public_key": encode_base64url(key.public_key().public_bytes_raw())} for name, key in keys.items()
    ]
    trust = {"deployment": "test", "threshold": 2, "signers": signers}
    policy = {"directory": "policy", "signatures": trust, "reload_seconds": 0.02}
    plan = demo_plan(active="s1", transitions=[], internal={"clients": []})

    def signed(name: str, id_: str, deployment: str = "test") -> LiftingSignature:
        return LiftingSignature(signer=name, value=sign(keys[name], lifting_payload(deployment, id_)))

    async with serving(tmp_path, plan, policy=policy) as server:
        made = await withdraw(server, WithdrawalTarget(model=SMALL))
        client = await withdraw(server, WithdrawalTarget(client=ClientTarget(issuer=ISSUER, client_id="mallory")))
        lead = signed("release-lead", made.id)

        for signatures in (
            [],
            [lead],
            [lead, lead],
            [lead, signed("safety-lead", client.id)],
            [lead, signed("safety-lead", made.id, "another")],
        ):
            refused = await refusal(lift(server, made.id, *signatures))
            assert refused.verdict == "FAILED_PRECONDITION SIGNATURES_REQUIRED"
            assert refused.facts == {"needed": "2", "valid": str(min(len(signatures), 1))}
        await lift(server, made.id, lead, signed("safety-lead", made.id))
        await lift(server, client.id)

        served = await generate(server)
        assert served.usage.output_tokens == 1
        assert list((await listed(server)).withdrawals) == []


async def test_a_watch_of_models_ends_with_its_caller(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        watch: Any = server.models.WatchModels(WatchModelsRequest(), metadata=STRANGER, timeout=LONG_SECONDS)
        await watch.read()

        await withdraw(server, WithdrawalTarget(subject=SubjectTarget(issuer=ISSUER, subject="alice")))

        assert (await refusal(watch)).verdict == "PERMISSION_DENIED CALLER_WITHDRAWN"


async def test_a_stage_gone_back_from_ends_the_streams_that_it_had_let_in(tmp_path: Path) -> None:
    async with serving(tmp_path, models={"gpt2-355m": {"device": "cpu"}}) as server:
        running = await begun(server, model="gpt2-355m")

        await withdraw(server, WithdrawalTarget(stage="s1"))

        ended = await refusal(running)
        assert ended.verdict == "PERMISSION_DENIED STAGE_CHANGED"
        assert ended.facts == {"stage": "s1"}
        assert ended.usage is not None


async def test_a_withdrawal_reaches_a_call_that_waits_in_the_queue(tmp_path: Path) -> None:
    models = {SMALL: {"device": "cpu", "slots": 1}}
    async with serving(tmp_path, models=models, metrics=METRICS) as server:
        running = await begun(server, bearer(client_id="other", sub="bob"))
        waiting = asyncio.create_task(refusal(generate(server)))

        async def are_under_way() -> bool:
            return (await server.metrics())[f'sluicegate_streams_active{{model="{SMALL}",partner="public"}}'] == 2

        await until(are_under_way)

        await withdraw(server, WithdrawalTarget(client=ClientTarget(issuer=ISSUER, client_id="app")))

        ended = await waiting  # although the engine stands still, and the other stream with it
        assert ended.verdict == CALLER
        assert ended.usage is None
        running.cancel()


async def test_a_withdrawal_reaches_a_stream_that_waits_for_its_reader(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"]["quotas"] = {"output_tokens_per_call": 1_000}
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]  # else it grows without a reader
    async with serving(tmp_path, plan, metrics=METRICS, channel_options=window) as server:
        server.engine.pause_after(900)  # 1 MB: more than all buffers on the way hold
        config = GenerationConfig(candidate_count=4, max_output_tokens=1_000, response_logprobs=True, logprobs=20)
        request = StreamGenerateRequest(model=SMALL, text="a", config=config)
        stalled = server.generation.StreamGenerate(request, metadata=STRANGER, timeout=LONG_SECONDS)

        async def is_written() -> bool:
            return len(server.engine.runners[SMALL].steps) >= 900

        await until(is_written)

        async with connected(server.target) as channel:
            closing = CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification="a drill")
            service: Any = WithdrawalServiceStub(channel)
            await service.CreateWithdrawal(closing, metadata=OPERATOR, timeout=LONG_SECONDS)

        async def is_over() -> bool:
            sample = f'sluicegate_streams_terminated_total{{cause="MODEL_WITHDRAWN",model="{SMALL}"}}'
            return (await server.metrics()).get(sample) == 1

        await until(is_over)  # before anything was read
        server.engine.resume()
        ended = await refusal(stalled)
        assert ended.verdict == "PERMISSION_DENIED MODEL_WITHDRAWN"
        assert ended.usage is not None


async def test_a_withdrawal_reaches_a_stream_whose_first_message_waits_for_its_reader(tmp_path: Path) -> None:
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 0)]
    async with serving(tmp_path, metrics=METRICS, channel_options=window) as server:
        request = StreamGenerateRequest(model=SMALL, text="a")
        stalled = server.generation.StreamGenerate(request, metadata=STRANGER, timeout=LONG_SECONDS)

        async def is_under_way() -> bool:
            return len(server.engine.runners[SMALL].steps) >= 100

        await until(is_under_way)
        async with connected(server.target) as channel:
            closing = CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification="a drill")
            service: Any = WithdrawalServiceStub(channel)
            await service.CreateWithdrawal(closing, metadata=OPERATOR, timeout=LONG_SECONDS)

        ended = await refusal(stalled)

        assert ended.verdict == "PERMISSION_DENIED MODEL_WITHDRAWN"
        assert ended.usage == (1, 0)


@pytest.mark.parametrize(
    "target",
    [
        WithdrawalTarget(token=TokenTarget(issuer=f"{ISSUER}/", token_id="token-1")),
        WithdrawalTarget(client=ClientTarget(issuer="https://other.example", client_id="app")),
        WithdrawalTarget(subject=SubjectTarget(issuer=f"{ISSUER}/", subject="alice")),
        WithdrawalTarget(key=KeyTarget(issuer="", key_id="k")),
        WithdrawalTarget(issued_before=IssuedBeforeTarget(issuer=f"{ISSUER}/")),
    ],
    ids=lambda target: target.WhichOneof("target"),
)
async def test_a_slip_in_an_issuer_does_not_look_like_a_closed_door(tmp_path: Path, target: WithdrawalTarget) -> None:
    async with serving(tmp_path) as server:
        request = CreateWithdrawalRequest(target=target, justification="a drill", validate_only=True)

        refused = await refusal(service(server).CreateWithdrawal(request, metadata=OPERATOR, timeout=LONG_SECONDS))

        assert list(refused.violations) == [f"target.{target.WhichOneof('target')}.issuer"]


@pytest.mark.parametrize("words", ["a\nclosed everything", "\x1b[31mred", "   ", "\x9b"])
async def test_a_justification_is_words_on_one_line(tmp_path: Path, words: str) -> None:
    async with serving(tmp_path) as server:
        request = CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification=words)

        refused = await refusal(service(server).CreateWithdrawal(request, metadata=OPERATOR, timeout=LONG_SECONDS))

        assert list(refused.violations) == ["justification"]


async def test_a_state_file_that_is_deleted_makes_the_list_stale_and_closes_nothing_in_silence(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()]) as server:
        delete_state(tmp_path)
        request = CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification="a drill")

        refused = await refusal(service(server).CreateWithdrawal(request, metadata=OPERATOR, timeout=LONG_SECONDS))

        assert refused.verdict == "UNAVAILABLE STATE_UNAVAILABLE"
