"""Every reason, told over a real channel: from here, or from a refused row of the decision table, which runs there too.

Each has a scenario that ends with it. Other files have the many ways to one reason; this one holds that none is
forgotten: what no call ends with is named below, with why.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from disks import FailingDisk
from harness import (
    LONG_SECONDS,
    METRICS,
    SMALL,
    Engine,
    Refusal,
    Server,
    bearer,
    demo_plan,
    open_agreement,
    read_refusal,
    refusal,
    serving,
    until,
)
from issuer import AUDIENCE, ISSUER, KEY, KEYS, NOW, claims, forge, header, token
from operators import operator

from sluicegate.auth import Reason, create_signing_key
from sluicegate.auth.encoding import encode_base64url
from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.messages import Load
from sluicegate.server.engine.runner import Runner
from sluicegate.v1.access_service_pb2 import GetCallerIdentityRequest
from sluicegate.v1.engine_service_pb2 import (
    CancelRequestRequest,
    ListActiveRequestsRequest,
    LoadModelRequest,
    UnloadModelRequest,
)
from sluicegate.v1.finding_service_pb2 import (
    FINDING_KIND_OTHER,
    FINDING_SEVERITY_LOW,
    CreateFindingRequest,
    GetFindingRequest,
)
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import CancelGenerationRequest, GenerateRequest, StreamGenerateRequest
from sluicegate.v1.withdrawal_service_pb2 import CreateWithdrawalRequest, LiftWithdrawalRequest, WithdrawalTarget
from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceStub

NEVER_TOLD = {
    Reason.AGREEMENT_REQUIRED: "no method of this version is for partners only",
    Reason.METHOD_SCOPE_MISSING: "every method declares its scope; test_interceptors.py makes one that does not",
}
ROOT = Path(__file__).parents[3]
TABLE = yaml.safe_load((ROOT / "tests/auth/decision_table.yaml").read_text())
TOLD_BY_THE_TABLE = {
    Reason(case["then"].split()[1]) for case in TABLE["cases"] if not case["then"].startswith("granted")
} - NEVER_TOLD.keys()

Scenario = Callable[[Path], Awaitable[Refusal]]
Metadata = tuple[tuple[str, str], ...]
GOOD, PARTNER = bearer(), bearer(client_id="lab-app")


def whoami(server: Server, metadata: Metadata = GOOD) -> Any:
    return server.access.GetCallerIdentity(GetCallerIdentityRequest(), metadata=metadata, timeout=LONG_SECONDS)


def generate(
    server: Server, metadata: Metadata = GOOD, *, model: str = SMALL, text: str = "The", tokens: int = 5
) -> Any:
    request = GenerateRequest(model=model, text=text, config=GenerationConfig(max_output_tokens=tokens))
    return server.generation.Generate(request, metadata=metadata, timeout=LONG_SECONDS)


def report(server: Server) -> Any:
    request = CreateFindingRequest(
        kind=FINDING_KIND_OTHER, model=SMALL, severity=FINDING_SEVERITY_LOW, summary="Odd verse."
    )
    return server.findings.CreateFinding(request, metadata=GOOD, timeout=LONG_SECONDS)


def cancel(server: Server, request_id: str) -> Any:
    request = CancelRequestRequest(request_id=request_id, justification="a drill")
    return server.engines.CancelRequest(request, metadata=GOOD, timeout=LONG_SECONDS)


async def an_operators_cancellation(directory: Path) -> Refusal:
    async with serving(directory) as server:
        call = await begun(server)
        active = await server.engines.ListActiveRequests(
            ListActiveRequestsRequest(), metadata=GOOD, timeout=LONG_SECONDS
        )
        await cancel(server, active.requests[0].request_id)
        return await refusal(call)


async def a_load_that_fails(directory: Path) -> Refusal:
    loads: list[Load] = []

    def load(message: Load) -> Runner:
        loads.append(message)
        if len(loads) > 1:
            raise ModelLoadError("the weights are gone")
        return Engine().load(message)

    async with serving(directory, load=load) as server:
        out = UnloadModelRequest(model=SMALL, justification="a drill")
        await server.engines.UnloadModel(out, metadata=GOOD, timeout=LONG_SECONDS)
        back = LoadModelRequest(model=SMALL, justification="a drill")
        return await refusal(server.engines.LoadModel(back, metadata=GOOD, timeout=LONG_SECONDS))


async def an_owners_cancellation(directory: Path) -> Refusal:
    async with serving(directory) as server:
        server.engine.pause_after(2)
        request = StreamGenerateRequest(model=SMALL, text="a")
        call: Any = server.generation.StreamGenerate(request, metadata=GOOD, timeout=LONG_SECONDS)
        message = await call.read()
        own = CancelGenerationRequest(request_id=message.started.request_id)
        await server.generation.CancelGeneration(own, metadata=GOOD, timeout=LONG_SECONDS)
        return await refusal(call)


async def begun(server: Server, model: str = SMALL) -> Any:
    """A stream that has begun and waits for its engine."""
    server.engine.pause_after(2)
    request = StreamGenerateRequest(model=model, text="a", config=GenerationConfig(max_output_tokens=100))
    call = server.generation.StreamGenerate(request, metadata=GOOD, timeout=LONG_SECONDS)
    await call.read()
    return call


def sent(*values: str) -> Scenario:
    """A call with these `authorization` values."""

    async def scenario(directory: Path) -> Refusal:
        async with serving(directory) as server:
            return await refusal(whoami(server, tuple(("authorization", value) for value in values)))

    return scenario


def carried(value: str) -> Scenario:
    """A call with this token."""
    return sent(f"Bearer {value}")


def asked(
    ask: Callable[[Server], Any], *, before: int = 0, plan: dict[str, int] | None = None, **settings: Any
) -> Scenario:
    """A call, made as often before as it is served. `plan`: quotas of the public."""

    async def scenario(directory: Path) -> Refusal:
        release = demo_plan()
        release["public"]["quotas"] |= plan or {}
        async with serving(directory, release, **settings) as server:
            for _ in range(before):
                await ask(server)
            return await refusal(ask(server))

    return scenario


async def too_many_denials(directory: Path) -> Refusal:
    async with serving(directory, limits={"denials_per_minute": 1}) as server:
        await refusal(generate(server, text=""))
        return await refusal(whoami(server))


async def too_many_streams(directory: Path) -> Refusal:
    release = demo_plan()
    release["public"]["quotas"] = {"concurrent_streams": 1}
    async with serving(directory, release) as server:
        await begun(server)
        return await refusal(generate(server))


async def a_full_disk(directory: Path) -> Refusal:
    with pytest.MonkeyPatch.context() as patch:
        disk = FailingDisk(patch)
        async with serving(directory) as server:
            disk.is_full = True
            refused = await refusal(generate(server))
            disk.is_full = False
    return refused


async def a_broken_ledger(directory: Path) -> Refusal:
    """Partners are not served without it."""
    async with serving(directory, agreements=[open_agreement()]) as server:
        lose_table(directory, "accounts")
        return await refusal(generate(server, PARTNER))


async def a_list_that_is_not_confirmed(directory: Path) -> Refusal:
    """Insiders are not served under it; the public is, as the policy says."""
    async with serving(directory) as server:
        server.engine.say("The end.")
        lose_table(directory, "history")
        async with asyncio.timeout(LONG_SECONDS):
            while True:
                try:
                    await generate(server, bearer(client_id="eval-team"))
                except grpc.aio.AioRpcError as error:
                    await generate(server)
                    return read_refusal(error)


def lose_table(directory: Path, table: str) -> None:
    """Break a server's store in mid-life."""
    with sqlite3.connect(directory / "sluicegate-state.db") as connection:
        connection.execute(f"DROP TABLE {table}")
    connection.close()


async def a_full_queue(directory: Path) -> Refusal:
    models = {SMALL: {"device": "cpu", "slots": 1}}
    async with serving(directory, models=models, limits={"queued_requests": 1}) as server:
        await begun(server)
        calls = [asyncio.create_task(refusal(generate(server))) for _ in range(2)]
        (first,), (waiting,) = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return await first


async def a_lifting_without_signatures(directory: Path) -> Refusal:
    keys = [Ed25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(2)]
    signers = [{"id": f"signer-{index}", "public_key": encode_base64url(key)} for index, key in enumerate(keys)]
    trust = {"deployment": "test", "threshold": 2, "signers": signers}
    policy = {"directory": "policy", "signatures": trust, "reload_seconds": 0.02}
    plan = demo_plan(active="s1", transitions=[], internal={"clients": []})
    async with serving(directory, plan, policy=policy) as server:
        service: Any = WithdrawalServiceStub(server.channel)
        create = CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification="a drill")
        made = (await service.CreateWithdrawal(create, metadata=operator(server))).withdrawal
        lift = LiftWithdrawalRequest(id=made.id, justification="the drill is over")
        return await refusal(service.LiftWithdrawal(lift, metadata=operator(server)))


async def a_stage_rolled_back(directory: Path) -> Refusal:
    async with serving(directory, models={"gpt2-355m": {}}) as server:
        call = await begun(server, "gpt2-355m")
        server.write_policy(demo_plan(active="s1"))
        return await refusal(call)


async def a_drain(directory: Path) -> Refusal:
    async with serving(directory) as server:
        call = await begun(server)
        draining = asyncio.create_task(server.running.draining.drain(asyncio.Event()))
        refused = await refusal(call)
        await draining
        return refused


async def a_lost_engine(directory: Path) -> Refusal:
    async with serving(directory) as server:
        call = await begun(server)
        server.engine.lose()
        return await refusal(call)


async def a_failed_step(directory: Path) -> Refusal:
    async with serving(directory) as server:
        await generate(server)
        server.engine.runners[SMALL].failures.append(RuntimeError("a broken device"))
        return await refusal(generate(server))


async def a_reader_that_stalls(directory: Path) -> Refusal:
    release = demo_plan()
    release["public"]["quotas"] = {"output_tokens_per_call": 1_000}
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]  # else it grows without a reader
    limits = {"stalled_reader_seconds": 0.2}
    async with serving(directory, release, limits=limits, metrics=METRICS, channel_options=window) as server:
        server.engine.pause_after(900)  # 1 MB: more than all buffers on the way hold
        config = GenerationConfig(candidate_count=4, max_output_tokens=1_000, response_logprobs=True, logprobs=20)
        request = StreamGenerateRequest(model=SMALL, text="The", config=config)
        call = server.generation.StreamGenerate(request, metadata=GOOD, timeout=LONG_SECONDS)

        async def is_cut() -> bool:
            sample = f'sluicegate_streams_terminated_total{{cause="READER_STALLED",model="{SMALL}"}}'
            return (await server.metrics())[sample] == 1

        await until(is_cut)
        server.engine.resume()
        return await refusal(call)


def no_keys() -> dict[str, Any]:
    """Keys at an address where nobody listens: the discard port."""
    return {"issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "keys": {"url": "http://127.0.0.1:9/jwks.json"}}]}


def unknown_method(server: Server) -> Any:
    call: Any = server.channel.unary_unary("/sluicegate.v1.GenerationService/Nope")
    return call(b"", metadata=GOOD, timeout=LONG_SECONDS)


SCENARIOS: dict[Reason, Scenario] = {
    Reason.PEER_RATE_LIMIT: asked(whoami, before=1, limits={"peer_calls_per_minute": 1}),
    Reason.TOKEN_MISSING: sent(),
    Reason.TOKEN_AMBIGUOUS: sent(f"Bearer {token()}", f"Bearer {token()}"),
    Reason.TOKEN_MALFORMED: carried(f"{token()}="),
    Reason.TOKEN_TYPE_INVALID: carried(forge(header(typ="JWT"), claims())),
    Reason.TOKEN_ALG_FORBIDDEN: carried(token(KEYS["EdDSA"])),
    Reason.TOKEN_HEADER_FORBIDDEN: carried(forge(header(jku="https://keys.example"), claims())),
    Reason.TOKEN_KEY_UNKNOWN: carried(token(create_signing_key(key_id="stranger"))),
    Reason.KEYS_STALE: asked(whoami, tokens=no_keys()),
    Reason.TOKEN_SIGNATURE_INVALID: carried(token(create_signing_key(key_id=KEY.key_id))),
    Reason.TOKEN_CLAIMS_INVALID: carried(token(sub=None)),
    Reason.TOKEN_ISSUER_INVALID: carried(token(iss="https://other.example")),
    Reason.TOKEN_AUDIENCE_INVALID: carried(token(aud="other")),
    Reason.TOKEN_NOT_YET_VALID: carried(token(nbf=NOW + 31)),
    Reason.TOKEN_EXPIRED: carried(token(iat=NOW - 60, exp=NOW)),
    Reason.TOKEN_LIFETIME_EXCESSIVE: carried(token(exp=NOW + 3_601)),
    Reason.TOKEN_BINDING_MISMATCH: carried(token(cnf={"x5t#S256": "A" * 43})),
    Reason.DENIAL_RATE_LIMIT: too_many_denials,
    Reason.REQUEST_INVALID: asked(lambda server: generate(server, text="")),
    Reason.WITHDRAWALS_STALE: a_list_that_is_not_confirmed,
    Reason.CONTEXT_LENGTH_EXCEEDED: asked(lambda server: generate(server, text="The " * 2_000)),
    Reason.CONCURRENCY_LIMIT: too_many_streams,
    Reason.REQUEST_RATE_LIMIT: asked(generate, before=2, plan={"requests_per_minute": 2}),
    Reason.TOKEN_RATE_LIMIT: asked(generate, before=2, plan={"output_tokens_per_minute": 10}),
    Reason.DAILY_TOKEN_QUOTA: asked(generate, before=2, plan={"output_tokens_per_day": 10}),
    Reason.STATE_UNAVAILABLE: a_broken_ledger,
    Reason.AUDIT_UNAVAILABLE: a_full_disk,
    Reason.MODEL_NOT_READY: asked(lambda server: generate(server, model="gpt2-355m")),
    Reason.SERVER_OVERLOADED: a_full_queue,
    Reason.SIGNATURES_REQUIRED: a_lifting_without_signatures,
    Reason.FINDING_UNKNOWN: asked(
        lambda server: server.findings.GetFinding(GetFindingRequest(id="none"), metadata=GOOD)
    ),
    Reason.FINDING_RATE_LIMIT: asked(report, before=1, findings={"reporter_per_day": 1}),
    Reason.REQUEST_UNKNOWN: asked(lambda server: cancel(server, "none")),
    Reason.MODEL_LOAD_FAILED: a_load_that_fails,
    Reason.CANCELLED_BY_CALLER: an_owners_cancellation,
    Reason.CANCELLED_BY_OPERATOR: an_operators_cancellation,
    Reason.STAGE_CHANGED: a_stage_rolled_back,
    Reason.SERVER_DRAINING: a_drain,
    Reason.ENGINE_LOST: a_lost_engine,
    Reason.DEADLINE_EXCEEDED: asked(generate, limits={"call_seconds": 1e-6}),
    Reason.READER_STALLED: a_reader_that_stalls,
    Reason.METHOD_UNKNOWN: asked(unknown_method),
    Reason.INTERNAL: a_failed_step,
}


@pytest.mark.parametrize("reason", SCENARIOS)
async def test_a_call_ends_with_the_reason(tmp_path: Path, reason: Reason, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason is Reason.WITHDRAWALS_STALE:  # after five seconds, which test_gate.py holds; one is enough here
        monkeypatch.setattr("sluicegate.auth.decision.MAX_AGE_SECONDS", 1.0)

    refused = await SCENARIOS[reason](tmp_path)

    assert refused.reason == reason


def test_no_reason_is_left_out() -> None:
    assert SCENARIOS.keys() | TOLD_BY_THE_TABLE | NEVER_TOLD.keys() == set(Reason)
    assert not NEVER_TOLD.keys() & (SCENARIOS.keys() | TOLD_BY_THE_TABLE)


def test_every_row_that_the_docs_say_is_enforced_has_its_reasons_told() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\|$", (ROOT / "docs/access.md").read_text(), re.MULTILINE)
    enforced = re.findall(r"^\| \d+ \|.*\| yes \|$", (ROOT / "docs/access.md").read_text(), re.MULTILINE)
    named = {Reason(name) for row in enforced for name in re.findall(r"`([A-Z_]{5,})`", row)}

    assert rows == [str(number) for number in range(1, 22)]
    assert named - SCENARIOS.keys() - TOLD_BY_THE_TABLE == {Reason.AGREEMENT_REQUIRED}
