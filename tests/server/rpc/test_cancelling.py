"""Callers end a call of their own from elsewhere, and nobody ends or finds another's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from harness import LONG_SECONDS, METRICS, SMALL, Server, bearer, connected, demo_plan, refusal, sent, serving

from sluicegate.v1.engine_service_pb2 import ListActiveRequestsRequest
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import CancelGenerationRequest, StreamGenerateRequest
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub

OWNER = bearer(sub="alice", client_id="app", jti="token-1")
SAME_OWNER = bearer(sub="alice", client_id="app", jti="token-2", scope="findings:read")
ONE_SLOT = {SMALL: {"device": "cpu", "slots": 1}}


def stream(server: Server, who: Any = OWNER, tokens: int = 100) -> Any:
    request = StreamGenerateRequest(model=SMALL, text="a", config=GenerationConfig(max_output_tokens=tokens))
    return server.generation.StreamGenerate(request, metadata=who, timeout=LONG_SECONDS)


async def begun(server: Server, who: Any = OWNER) -> tuple[Any, str]:
    """A stream that has said two tokens and waits for its engine, and its id."""
    server.engine.pause_after(2)
    call = stream(server, who)
    started = (await call.read()).started
    while (await call.read()).usage.output_tokens < 2:
        pass
    return call, started.request_id


def cancelling(server: Server, request_id: str, who: Any = SAME_OWNER) -> Any:
    request = CancelGenerationRequest(request_id=request_id)
    return server.generation.CancelGeneration(request, metadata=who, timeout=LONG_SECONDS)


async def test_an_owner_ends_its_stream_over_another_connection_and_by_another_token(tmp_path: Path) -> None:
    async with serving(tmp_path, metrics=METRICS) as server:
        call, request_id = await begun(server)

        async with connected(server.target) as channel:
            stub: Any = GenerationServiceStub(channel)
            request = CancelGenerationRequest(request_id=request_id)
            await stub.CancelGeneration(request, metadata=SAME_OWNER, timeout=LONG_SECONDS)

        ended = await refusal(call)
        assert ended.verdict == "CANCELLED CANCELLED_BY_CALLER"
        assert (ended.request_id, ended.usage, ended.retry_after) == (request_id, (1, 2), None)
        cause = f'sluicegate_streams_terminated_total{{cause="CANCELLED_BY_CALLER",model="{SMALL}"}}'
        assert (await server.metrics())[cause] == 1


async def test_a_call_in_the_queue_is_ended_too(tmp_path: Path) -> None:
    async with serving(tmp_path, models=ONE_SLOT) as server:
        running, _ = await begun(server, bearer(sub="bob"))
        waiting = asyncio.create_task(refusal(stream(server)))
        await sent(server, 2)
        listed = await server.engines.ListActiveRequests(
            ListActiveRequestsRequest(), metadata=bearer(), timeout=LONG_SECONDS
        )

        await cancelling(server, listed.requests[1].request_id)

        assert (await waiting).verdict == "CANCELLED CANCELLED_BY_CALLER"
        running.cancel()


STRANGERS = {
    "another subject": bearer(sub="bob", client_id="app"),
    "another client": bearer(sub="alice", client_id="reader"),
    "no token": (),
}


@pytest.mark.parametrize("who", STRANGERS.values(), ids=STRANGERS)
async def test_anothers_call_is_answered_like_one_that_is_not_there_and_goes_on(tmp_path: Path, who: Any) -> None:
    plan = demo_plan()
    plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 64}}
    async with serving(tmp_path, plan) as server:
        call, request_id = await begun(server)

        of_another = await refusal(cancelling(server, request_id, who))
        of_nobody = await refusal(cancelling(server, request_id[:-1] + "x", who))
        server.engine.resume()
        while (message := await call.read()) is not grpc.aio.EOF:
            last = message

        assert of_another.verdict == "NOT_FOUND REQUEST_UNKNOWN"
        for part in ("verdict", "text", "facts", "details", "violations", "retry_after", "pushback"):
            assert getattr(of_another, part) == getattr(of_nobody, part)
        assert last.WhichOneof("event") == "finished"


async def test_callers_without_a_token_own_no_calls_not_even_their_own(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 64}}
    async with serving(tmp_path, plan) as server:
        call, request_id = await begun(server, ())

        refused = await refusal(cancelling(server, request_id, ()))

        assert refused.verdict == "NOT_FOUND REQUEST_UNKNOWN"
        call.cancel()


async def test_a_call_that_is_over_is_not_there(server: Server) -> None:
    server.engine.say("The end.")
    call = stream(server)
    request_id = (await call.read()).started.request_id
    while await call.read() is not grpc.aio.EOF:
        pass

    assert (await refusal(cancelling(server, request_id))).verdict == "NOT_FOUND REQUEST_UNKNOWN"


async def test_who_has_no_good_token_ends_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        call, request_id = await begun(server)

        refused = await refusal(cancelling(server, request_id, ()))

        assert refused.verdict == "UNAUTHENTICATED TOKEN_MISSING"
        call.cancel()
