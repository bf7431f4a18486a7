"""What happens around every call: who is asked first, what is told, what is counted and logged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from audits import no_audit
from grpc_health.v1.health_pb2 import HealthCheckRequest
from harness import (
    EVERY_SCOPE,
    LONG_SECONDS,
    METRICS,
    SMALL,
    Server,
    bearer,
    connected,
    demo_plan,
    refusal,
    serving,
)
from issuer import AUDIENCE, ISSUER, KEY, FakeClock, FakeKeys, token
from policies import policy

from sluicegate.auth import ALGORITHMS, Reason, TokenVerifier, TrustedIssuer
from sluicegate.server.errors import CallRefused
from sluicegate.server.limiters import DenialLimiter, Networks
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.output import Usage
from sluicegate.server.rpc import call as rpc_call
from sluicegate.server.rpc.authenticator import Authenticator
from sluicegate.server.rpc.interceptors import authentication, calls, errors
from sluicegate.server.rpc.methods import own_services, required_scopes
from sluicegate.server.rpc.peer import Peers
from sluicegate.v1.generation_service_pb2 import GenerateRequest, TokenizeRequest

Logs = list[MutableMapping[str, Any]]

GENERATE = "/sluicegate.v1.GenerationService/Generate"
WATCH = "/sluicegate.v1.ModelService/WatchModels"
OWN_METHODS = [f"/{service.full_name}/{method.name}" for service in own_services() for method in service.methods]


def raw(server: Server, path: str, body: bytes = b"", metadata: Any = ()) -> Any:
    """A call of any method with any bytes."""
    call: Any = server.channel_of(path).unary_unary(path)
    return call(body, metadata=metadata, timeout=LONG_SECONDS)


@pytest.mark.parametrize(
    "path",
    [
        "/sluicegate.v1.GenerationService/Nope",
        "/sluicegate.v1.NoService/Generate",
        "/sluicegate.v2.GenerationService/Generate",
        "/grpc.health.v1.Health/Nope",
        "/example.Other/Method",
    ],
)
async def test_a_method_that_does_not_exist_is_unknown_with_and_without_a_token(server: Server, path: str) -> None:
    verdicts = {(await refusal(raw(server, path, metadata=metadata))).verdict for metadata in ((), bearer())}

    assert verdicts == {"UNIMPLEMENTED METHOD_UNKNOWN"}


@pytest.mark.parametrize("path", OWN_METHODS)
async def test_every_method_wants_a_token_before_it_reads_the_request(server: Server, path: str) -> None:
    refused = await refusal(raw(server, path, b"\xff\xff"))

    assert refused.verdict == "UNAUTHENTICATED TOKEN_MISSING"


@pytest.mark.parametrize("path", OWN_METHODS)
async def test_bytes_that_are_no_message_are_an_invalid_request(server: Server, logs: Logs, path: str) -> None:
    refused = await refusal(raw(server, path, b"\xff\xff", bearer()))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert refused.violations == {"": "the request is no message of this method"}
    assert [entry["reason"] for entry in logs if entry["event"] == "call"] == ["REQUEST_INVALID"]


async def test_text_that_is_not_utf8_is_an_invalid_request(server: Server) -> None:
    body = GenerateRequest(model=SMALL, text="caf@").SerializeToString().replace(b"@", b"\xe9")

    refused = await refusal(raw(server, GENERATE, body, bearer()))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"


@pytest.mark.parametrize("service", ["sluicegate.v1.FutureService", "example.Other"])
async def test_a_method_without_a_scope_is_refused(logs: Logs, service: str) -> None:
    async def never(request: bytes, context: object) -> bytes:
        raise AssertionError("it was called")

    path = f"/{service}/Do"
    keys = TrustedIssuer(ISSUER, AUDIENCE, ALGORITHMS, FakeKeys(KEY))
    decider = policy(demo_plan())
    authenticator = Authenticator(TokenVerifier([keys], clock=FakeClock()), Peers(), lambda: decider)
    metrics = Metrics()
    limiter, audit = DenialLimiter(1, Networks(32, 64), FakeClock()), no_audit(decider)
    authenticated = authentication(authenticator, limiter, {}, metrics, audit)
    server = grpc.aio.server(interceptors=[errors(), calls(metrics, frozenset({path}), audit), authenticated])
    handler: Any = grpc.unary_unary_rpc_method_handler(never)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Do": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connected(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary(path)
            refused = await refusal(call(b"", metadata=bearer(), timeout=LONG_SECONDS))
    finally:
        await server.stop(None)

    assert refused.verdict == "PERMISSION_DENIED METHOD_SCOPE_MISSING"
    assert [entry["reason"] for entry in logs if entry["event"] == "call"] == ["METHOD_SCOPE_MISSING"]


@pytest.mark.parametrize(
    ("scope", "verdict"),
    [("release:read generate:gpt2-124m", None), ("generate:gpt2-124m", "PERMISSION_DENIED SCOPE_MISSING")],
)
async def test_a_scope_that_is_about_no_model_is_asked_for_before_the_method(scope: str, verdict: str | None) -> None:
    async def answer(request: bytes, context: object) -> bytes:
        return b"done"

    path = "/sluicegate.v1.FutureService/Do"
    keys = TrustedIssuer(ISSUER, AUDIENCE, ALGORITHMS, FakeKeys(KEY))
    decider, clock, metrics = policy(demo_plan()), FakeClock(), Metrics()
    authenticator = Authenticator(TokenVerifier([keys], clock=clock), Peers(), lambda: decider)
    limiter, audit = DenialLimiter(100, Networks(32, 64), clock), no_audit(decider)
    authenticated = authentication(authenticator, limiter, {path: "release:read"}, metrics, audit)
    server = grpc.aio.server(interceptors=[errors(), calls(metrics, frozenset({path}), audit), authenticated])
    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("sluicegate.v1.FutureService", {"Do": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connected(f"127.0.0.1:{port}") as channel:
            ask: Any = channel.unary_unary(path)
            call = ask(b"", metadata=bearer(scope=scope), timeout=LONG_SECONDS)
            if verdict is None:
                assert await call == b"done"
            else:
                refused = await refusal(call)
                assert (refused.verdict, refused.facts) == (verdict, {"required_scope": "release:read"})
    finally:
        await server.stop(None)


async def test_the_end_of_a_running_call_is_no_denial() -> None:
    async def ends(request: bytes, context: object) -> bytes:
        if request:
            rpc_call.current().usage = Usage(prompt_tokens=1)
        raise CallRefused(Reason.AGREEMENT_NOT_ACTIVE)

    keys = TrustedIssuer(ISSUER, AUDIENCE, ALGORITHMS, FakeKeys(KEY))
    decider, clock, metrics = policy(demo_plan()), FakeClock(), Metrics()
    authenticator = Authenticator(TokenVerifier([keys], clock=clock), Peers(), lambda: decider)
    limiter, audit = DenialLimiter(1, Networks(32, 64), clock), no_audit(decider)
    authenticated = authentication(authenticator, limiter, {GENERATE: "authenticated"}, metrics, audit)
    server = grpc.aio.server(interceptors=[errors(), calls(metrics, frozenset({GENERATE}), audit), authenticated])
    handler: Any = grpc.unary_unary_rpc_method_handler(ends)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("sluicegate.v1.GenerationService", {"Generate": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connected(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary(GENERATE)
            reasons = [
                (await refusal(call(body, metadata=bearer(), timeout=LONG_SECONDS))).reason
                for body in (b"begins", b"begins", b"", b"")
            ]
    finally:
        await server.stop(None)

    assert reasons == ["AGREEMENT_NOT_ACTIVE"] * 3 + ["DENIAL_RATE_LIMIT"]


async def test_every_method_that_is_served_declares_its_scope() -> None:
    assert set(required_scopes(own_services())) == set(OWN_METHODS)


async def test_calls_are_logged_by_id_method_and_end(server: Server, logs: Logs) -> None:
    server.engine.say("The end.")
    whole = GenerateRequest(model=SMALL, text="The")

    answer = await server.generation.Generate(whole, metadata=bearer(), timeout=LONG_SECONDS)
    refused = await refusal(server.generation.Generate(whole, timeout=LONG_SECONDS))

    entries = [entry for entry in logs if entry["event"] == "call"]
    assert [entry["request_id"] for entry in entries] == [answer.started.request_id, refused.request_id]
    assert [(entry["method"], entry["code"], entry["reason"]) for entry in entries] == [
        ("sluicegate.v1.GenerationService/Generate", "OK", "NONE"),
        ("sluicegate.v1.GenerationService/Generate", "UNAUTHENTICATED", "TOKEN_MISSING"),
    ]
    assert [(entry["prompt_tokens"], entry["output_tokens"]) for entry in entries] == [(1, 3), (None, None)]


async def test_a_stream_that_is_cancelled_while_a_message_leaves_counts_as_cancelled(logs: Logs) -> None:
    async def stream(request: bytes, context: object) -> AsyncIterator[bytes]:
        yield request

    async def innermost(_details: object) -> Any:
        return grpc.unary_stream_rpc_method_handler(stream)

    async def inner(details: Any) -> Any:
        return await calls(metrics, frozenset({WATCH}), audit).intercept_service(innermost, details)

    metrics, audit, details = Metrics(), no_audit(policy(demo_plan())), SimpleNamespace(method=WATCH)
    wrapped: Any = await errors().intercept_service(inner, cast("grpc.HandlerCallDetails", details))
    responses = wrapped.unary_stream(b"", None)
    await anext(responses)

    await responses.aclose()  # what becomes of a handler that gRPC drops in its write

    assert [entry["code"] for entry in logs] == ["CANCELLED"]
    labels = {"grpc_service": "sluicegate.v1.ModelService", "grpc_method": "WatchModels", "grpc_code": "CANCELLED"}
    assert metrics.registry.get_sample_value("grpc_server_handled_total", labels) == 1


async def test_health_is_not_logged(server: Server, logs: Logs) -> None:
    before = len(logs)

    await server.health.Check(HealthCheckRequest(), timeout=LONG_SECONDS)

    assert logs[before:] == []


async def test_no_log_line_has_a_prompt_an_output_a_token_a_subject_or_an_address(server: Server, logs: Logs) -> None:
    secret = token(scope=EVERY_SCOPE, sub="subject-marker", client_id="client-marker", jti="jti-marker")
    caller = (("authorization", f"Bearer {secret}"),)
    server.engine.say("output-marker")
    before = len(logs)
    text = "prompt-marker"
    others: list[Any] = [
        server.generation.Generate(
            GenerateRequest(model=SMALL, text=text, client_request_id="id-marker"), metadata=caller
        ),
        server.generation.Generate(GenerateRequest(model="model-marker", text=text), metadata=caller),
        server.generation.Generate(GenerateRequest(model=SMALL, text=text, purpose="x" * 65), metadata=caller),
        server.generation.Tokenize(TokenizeRequest(model=SMALL, text=text), metadata=caller),
        server.generation.Generate(GenerateRequest(model=SMALL, text=text), metadata=bearer(f"{secret}x")),
        raw(server, "/method-marker/Method", b"prompt-marker", caller),
        raw(server, GENERATE, b"\xff prompt-marker", caller),
    ]
    await asyncio.gather(*others, return_exceptions=True)
    server.engine.runners[SMALL].failures.append(RuntimeError("engine-marker"))
    await refusal(server.generation.Generate(GenerateRequest(model=SMALL, text=text), metadata=caller))

    told = [
        entry for entry in logs[before:] if entry["event"] != "step_failed"
    ]  # the engine's own cause may stand there
    assert len([entry for entry in told if entry["event"] == "call"]) == len(others) + 1
    assert "marker" not in repr(told)
    assert secret not in repr(told)
    assert "127.0.0.1" not in repr(told)


async def test_calls_are_counted_by_method_and_code_with_unknown_methods_as_one(tmp_path: Path) -> None:
    async with serving(tmp_path, metrics=METRICS) as server:
        server.engine.say("The end.")
        before = await server.metrics()

        await server.generation.Generate(GenerateRequest(model=SMALL, text="The"), metadata=bearer())
        await refusal(server.generation.Generate(GenerateRequest(model=SMALL), metadata=bearer()))
        for name in ("One", "Two", "Three"):
            await refusal(raw(server, f"/hostile.{name}/{name}"))
            await refusal(raw(server, f"/sluicegate.v1.GenerationService/{name}"))

        after = await server.metrics()
        method = 'grpc_method="Generate",grpc_service="sluicegate.v1.GenerationService"'
        assert after[f'grpc_server_handled_total{{grpc_code="OK",{method}}}'] == 1
        assert after[f'grpc_server_handled_total{{grpc_code="INVALID_ARGUMENT",{method}}}'] == 1
        assert after[f"grpc_server_started_total{{{method}}}"] == 2
        unknown = 'grpc_server_handled_total{grpc_code="UNIMPLEMENTED",grpc_method="other",grpc_service="other"}'
        assert after[unknown] == 6
        assert all("hostile" not in name and "Three" not in name for name in after)
        assert {name for name in after if name.startswith("grpc_server_handled")} - set(before) <= {unknown}
