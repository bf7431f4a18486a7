"""Rows 1 and 10 through the wire."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from harness import (
    LONG_SECONDS,
    METRICS,
    SMALL,
    Refusal,
    Server,
    bearer,
    connected,
    demo_plan,
    read_refusal,
    refusal,
    serving,
)

from sluicegate.v1.access_service_pb2 import CheckAccessRequest, GetCallerIdentityRequest
from sluicegate.v1.generation_service_pb2 import GenerateRequest, TokenizeRequest
from sluicegate.v1.model_service_pb2 import GetModelRequest

Metadata = tuple[tuple[str, str], ...]
GOOD: Metadata = bearer()
PEER_LIMIT = "RESOURCE_EXHAUSTED PEER_RATE_LIMIT"
DENIAL_LIMIT = "RESOURCE_EXHAUSTED DENIAL_RATE_LIMIT"
CLOSED = "gpt2-next"


def whoami(server: Server, metadata: Metadata = GOOD) -> Any:
    return server.access.GetCallerIdentity(GetCallerIdentityRequest(), metadata=metadata, timeout=LONG_SECONDS)


def generate(server: Server, metadata: Metadata = GOOD, model: str = SMALL, text: str = "The") -> Any:
    request = GenerateRequest(model=model, text=text)
    return server.generation.Generate(request, metadata=metadata, timeout=LONG_SECONDS)


def check(server: Server, model: str = CLOSED, metadata: Metadata = GOOD) -> Any:
    request = CheckAccessRequest(action="generate", model=model)
    return server.access.CheckAccess(request, metadata=metadata, timeout=LONG_SECONDS)


async def is_served(call: Any) -> bool:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if read_refusal(error).verdict not in (PEER_LIMIT, DENIAL_LIMIT):
            raise
        return False
    return True


async def health_check(server: Server) -> Refusal:
    return await refusal(server.health.Check(HealthCheckRequest(), timeout=LONG_SECONDS))


async def reflection(server: Server) -> Refusal:
    channel: Any = server.channel
    stub: Any = ServerReflectionStub(channel)
    return await refusal(stub.ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")])))


async def test_a_network_that_calls_too_often_is_refused_before_its_token_is_looked_at(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"peer_calls_per_minute": 3}) as server:
        for _ in range(3):
            await whoami(server)

        for metadata in (bearer(), bearer("not a token"), ()):
            refused = await refusal(whoami(server, metadata))

            assert refused.verdict == PEER_LIMIT
            assert refused.retry_after == pytest.approx(20.0)
            assert refused.pushback == "20000"
            assert refused.details == ("ErrorInfo", "RetryInfo", "RequestInfo")


async def test_a_network_may_call_again_after_the_time_that_it_was_told(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"peer_calls_per_minute": 3}) as server:
        for _ in range(3):
            await whoami(server)
        refused = await refusal(whoami(server))
        assert refused.retry_after is not None

        server.clock.now += refused.retry_after

        assert [await is_served(whoami(server)) for _ in range(2)] == [True, False]


async def test_health_reflection_and_unknown_methods_count_and_are_refused_like_any_call(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"peer_calls_per_minute": 3}) as server:
        await server.health.Check(HealthCheckRequest(), timeout=LONG_SECONDS)
        unknown: Any = server.channel.unary_unary("/example.Other/Method")
        assert (await refusal(unknown(b"", timeout=LONG_SECONDS))).verdict == "UNIMPLEMENTED METHOD_UNKNOWN"
        await whoami(server)

        refused = [
            await health_check(server),
            await reflection(server),
            await refusal(unknown(b"", timeout=LONG_SECONDS)),
            await refusal(whoami(server)),
        ]

        assert [each.verdict for each in refused] == [PEER_LIMIT] * 4


async def test_calls_over_a_unix_socket_are_not_limited_by_network(tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/s"
    async with serving(tmp_path, listen=listen, limits={"peer_calls_per_minute": 1}) as server:
        for _ in range(5):
            await whoami(server)


async def test_calls_that_a_network_makes_too_often_are_counted_and_not_logged(
    tmp_path: Path, logs: list[MutableMapping[str, Any]]
) -> None:
    async with serving(tmp_path, limits={"peer_calls_per_minute": 1}, metrics=METRICS) as server:
        await whoami(server)
        for _ in range(5):
            await refusal(whoami(server))

        samples = await server.metrics()

    sample = 'sluicegate_decisions_total{decision="denied",model="other",reason="PEER_RATE_LIMIT"}'
    assert samples[sample] == 5
    assert [entry["reason"] for entry in logs if entry["event"] == "call"] == ["NONE"]


async def test_a_client_that_is_refused_too_often_is_refused_everything_until_its_budget_refills(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, limits={"denials_per_minute": 2}, metrics=METRICS) as server:
        server.engine.say("The end.")
        assert (await refusal(generate(server, model=CLOSED))).reason == "MODEL_NOT_RELEASED"
        assert (await refusal(generate(server, bearer(scope="score:nothing")))).reason == "SCOPE_MISSING"

        refused = [await refusal(generate(server)), await refusal(whoami(server))]

        assert [each.verdict for each in refused] == [DENIAL_LIMIT] * 2
        assert refused[0].retry_after == pytest.approx(30.0)
        assert refused[0].pushback == "30000"
        assert await is_served(generate(server, bearer(client_id="other")))
        sample = 'sluicegate_decisions_total{decision="denied",model="other",reason="DENIAL_RATE_LIMIT"}'
        assert (await server.metrics())[sample] == 2
        server.clock.now += 30
        assert await is_served(generate(server))


async def test_what_counts_as_a_denial(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"denials_per_minute": 5}) as server:
        assert not (await check(server)).allowed
        await refusal(server.models.GetModel(GetModelRequest(model=CLOSED), metadata=bearer()))
        await refusal(server.generation.Tokenize(TokenizeRequest(model=CLOSED, text="The"), metadata=bearer()))
        await refusal(generate(server, text=""))
        unread: Any = server.channel.unary_unary("/sluicegate.v1.GenerationService/Generate")
        await refusal(unread(b"\xff\xff", metadata=bearer(), timeout=LONG_SECONDS))

        assert (await refusal(whoami(server))).verdict == DENIAL_LIMIT


async def test_what_does_not_count_as_a_denial(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"denials_per_minute": 1}) as server:
        server.engine.say("The end.")
        assert (await check(server, model=SMALL)).allowed
        await generate(server)
        assert (await refusal(generate(server, text="The " * 2_000))).reason == "CONTEXT_LENGTH_EXCEEDED"
        assert (await refusal(generate(server, bearer("not a token")))).reason == "TOKEN_MALFORMED"

        assert await is_served(whoami(server))


async def test_a_caller_without_a_token_is_known_by_its_network(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 10}}
    async with serving(tmp_path, plan, limits={"denials_per_minute": 1}) as server:
        server.engine.say("The end.")
        assert (await refusal(generate(server, (), CLOSED))).reason == "MODEL_NOT_RELEASED"

        assert (await refusal(generate(server, ()))).verdict == DENIAL_LIMIT
        assert await is_served(generate(server))


async def test_the_order_is_network_then_token_then_denials_then_fields(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"peer_calls_per_minute": 4, "denials_per_minute": 1}) as server:
        reasons = [
            (await refusal(generate(server, text=""))).reason,
            (await refusal(generate(server, bearer("not a token"), text=""))).reason,
            (await refusal(generate(server, text=""))).reason,
            (await refusal(generate(server, bearer(client_id="other"), text=""))).reason,
            (await refusal(generate(server, bearer("not a token"), text=""))).reason,
        ]

    assert reasons == [
        "REQUEST_INVALID",
        "TOKEN_MALFORMED",
        "DENIAL_RATE_LIMIT",
        "REQUEST_INVALID",
        "PEER_RATE_LIMIT",
    ]


async def test_a_new_connection_is_no_new_network(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"peer_calls_per_minute": 1}) as server:
        await whoami(server)

        async with connected(server.target) as channel:
            call: Any = channel.unary_unary("/sluicegate.v1.AccessService/GetCallerIdentity")
            refused = await refusal(call(b"", metadata=bearer(), timeout=LONG_SECONDS))

    assert refused.verdict == PEER_LIMIT
