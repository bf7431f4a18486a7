"""EngineService: what operators see of engines and calls, how they step in, and that nobody else does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, MutableMapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from audit_logs import entries
from grpc_health.v1.health_pb2 import HealthCheckRequest
from harness import (
    AUDIT,
    LONG_SECONDS,
    METRICS,
    SCRIPTED_WEIGHTS,
    SMALL,
    Engine,
    Server,
    bearer,
    demo_plan,
    open_agreement,
    refusal,
    sent,
    serving,
    until,
)
from issuer import ISSUER

from sluicegate.server.audit.entries import Operated
from sluicegate.server.engine.messages import Load
from sluicegate.server.engine.runner import Runner
from sluicegate.v1.engine_service_pb2 import (
    REQUEST_STATE_QUEUED,
    REQUEST_STATE_RUNNING,
    REQUEST_STATE_STALLED,
    ActiveRequest,
    CancelRequestRequest,
    DrainRequest,
    EngineLoad,
    GetLoadRequest,
    ListActiveRequestsRequest,
    LoadModelRequest,
    UnloadModelRequest,
)
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import ScoreRequest, StreamGenerateRequest
from sluicegate.v1.model_service_pb2 import MODEL_STATE_LOADING, MODEL_STATE_READY

OPERATOR = bearer(sub="olga", client_id="operations", scope="engine:read engine:manage")
READER = bearer(sub="otto", client_id="operations", scope="engine:read")
PARTNER = bearer(client_id="lab-app")
SERVING, NOT_SERVING = 1, 2
ONE_SLOT = {SMALL: {"device": "cpu", "slots": 1}}
SECRET = "nobody-may-read-this"
SLOW_READER = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]
"""Channel options: else the window grows without a reader."""


async def load(server: Server) -> list[EngineLoad]:
    answer = await server.engines.GetLoad(GetLoadRequest(), metadata=READER, timeout=LONG_SECONDS)
    return list(answer.engines)


async def active(server: Server) -> list[ActiveRequest]:
    request = ListActiveRequestsRequest()
    answer = await server.engines.ListActiveRequests(request, metadata=READER, timeout=LONG_SECONDS)
    return list(answer.requests)


def cancelling(server: Server, request_id: str, *, validate_only: bool = False, metadata: Any = OPERATOR) -> Any:
    request = CancelRequestRequest(request_id=request_id, justification="It hangs.", validate_only=validate_only)
    return server.engines.CancelRequest(request, metadata=metadata, timeout=LONG_SECONDS)


def stream(server: Server, metadata: Any = PARTNER, **config: Any) -> Any:
    request = StreamGenerateRequest(model=SMALL, text=SECRET, config=GenerationConfig(max_output_tokens=100, **config))
    return server.generation.StreamGenerate(request, metadata=metadata, timeout=LONG_SECONDS)


async def begun(server: Server, tokens: int = 2) -> Any:
    """A stream that has said so many tokens and waits for its engine."""
    server.engine.pause_after(tokens)
    call = stream(server)
    while (await call.read()).usage.output_tokens < tokens:
        pass
    return call


async def test_the_load_tells_of_each_engine_and_its_models(tmp_path: Path) -> None:
    models = {SMALL: {"device": "cpu", "slots": 3}, "gpt2-355m": {"device": "auto"}}
    async with serving(tmp_path, models=models) as server:
        first, second = await load(server)

    (model,) = first.models
    assert (first.device, first.alive, first.restarts) == ("cpu", True, 0)
    assert (model.model, model.state, model.slots) == (SMALL, MODEL_STATE_READY, 3)
    assert (model.queued_requests, model.running_sequences) == (0, 0)
    assert (model.device, model.dtype, model.weights_sha256) == ("cpu", "float32", SCRIPTED_WEIGHTS)
    assert model.cache_bytes > 0
    assert (second.device, [each.model for each in second.models]) == ("auto", ["gpt2-355m"])


async def test_the_load_tells_of_calls_that_run_and_wait(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()], models=ONE_SLOT) as server:
        await begun(server)
        waiting = stream(server)
        await sent(server, 2)

        ((model,),) = [engine.models for engine in await load(server)]

        assert (model.queued_requests, model.running_sequences) == (1, 1)
        waiting.cancel()


async def test_the_load_tells_that_an_engine_was_lost_and_is_back(tmp_path: Path) -> None:
    loads: list[Load] = []
    may_load_again = threading.Event()

    def load_model(message: Load) -> Runner:
        loads.append(message)
        if len(loads) > 1:
            may_load_again.wait()
        return Engine().load(message)

    async with serving(tmp_path, load=load_model) as server:
        try:
            server.engine.lose()

            async def is_down() -> bool:
                return not (await load(server))[0].alive

            await until(is_down)
            (down,) = await load(server)
        finally:
            may_load_again.set()

        async def is_up() -> bool:
            return (await load(server))[0].alive

        await until(is_up)
        (up,) = await load(server)

    assert (down.models[0].state, down.models[0].slots, down.models[0].weights_sha256) == (MODEL_STATE_LOADING, 0, "")
    assert (up.restarts, up.models[0].state) == (1, MODEL_STATE_READY)


async def test_calls_are_listed_with_who_and_how_far_and_without_their_texts(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()], models=ONE_SLOT) as server:
        await begun(server)
        waiting = stream(server, metadata=bearer(client_id="reader"))
        await sent(server, 2)

        running, queued = await active(server)

        assert (running.model, running.action, running.state) == (SMALL, "generate", REQUEST_STATE_RUNNING)
        assert (running.agreement, running.issuer, running.client_id) == ("agr-example-lab", ISSUER, "lab-app")
        assert (running.prompt_tokens > 1, running.output_tokens) == (True, 2)
        assert running.age.ToNanoseconds() > queued.age.ToNanoseconds() > 0
        assert (queued.state, queued.agreement, queued.client_id) == (REQUEST_STATE_QUEUED, "", "reader")
        assert SECRET.encode() not in running.SerializeToString() + queued.SerializeToString()
        waiting.cancel()


async def test_a_score_that_waits_for_its_slot_is_queued(tmp_path: Path) -> None:
    async with serving(tmp_path, models=ONE_SLOT) as server:
        server.engine.pause_after(1)
        before = stream(server, metadata=bearer())
        await before.read()
        request = ScoreRequest(model=SMALL, text=SECRET)
        score = server.generation.Score(request, metadata=bearer(), timeout=LONG_SECONDS)
        await sent(server, 2)

        states = {each.action: each.state for each in await active(server)}

        assert states == {"generate": REQUEST_STATE_RUNNING, "score": REQUEST_STATE_QUEUED}
        server.engine.resume()
        before.cancel()
        await score


async def test_a_reader_that_takes_nothing_is_listed_as_stalled_and_its_call_can_be_ended(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"]["quotas"] = {"output_tokens_per_call": 1_000}
    async with serving(tmp_path, plan, metrics=METRICS, channel_options=SLOW_READER) as server:
        server.engine.pause_after(900)  # 1 MB: more than all buffers on the way hold
        config = GenerationConfig(candidate_count=4, max_output_tokens=1_000, response_logprobs=True, logprobs=20)
        request = StreamGenerateRequest(model=SMALL, text="a", config=config)
        call = server.generation.StreamGenerate(request, metadata=bearer(), timeout=LONG_SECONDS)

        async def is_stalled() -> bool:
            return [each.state for each in await active(server)] == [REQUEST_STATE_STALLED]

        await until(is_stalled)
        (stalled,) = await active(server)
        await cancelling(server, stalled.request_id)

        async def is_over() -> bool:
            return not await active(server)

        await until(is_over)  # before anything was read
        server.engine.resume()
        ended = await refusal(call)
        assert ended.verdict == "CANCELLED CANCELLED_BY_OPERATOR"
        assert ended.usage is not None
        assert ended.usage[1] > 0


async def test_a_stream_is_ended_with_its_usage_and_others_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()], metrics=METRICS) as server:
        call = await begun(server)
        other = stream(server, metadata=bearer())
        await sent(server, 2)
        first, _ = await active(server)

        answer = await cancelling(server, first.request_id)

        ended = await refusal(call)
        server.engine.resume()
        while (message := await other.read()) is not grpc.aio.EOF:
            last = message
        assert answer.request.request_id == first.request_id
        assert (answer.request.state, answer.request.output_tokens) == (REQUEST_STATE_RUNNING, 2)
        assert ended.verdict == "CANCELLED CANCELLED_BY_OPERATOR"
        assert (ended.request_id, ended.usage, ended.retry_after) == (first.request_id, (first.prompt_tokens, 2), None)
        assert (last.WhichOneof("event"), last.usage.output_tokens) == ("finished", 100)
        cause = f'sluicegate_streams_terminated_total{{cause="CANCELLED_BY_OPERATOR",model="{SMALL}"}}'
        assert (await server.metrics())[cause] == 1


async def test_a_call_in_the_queue_is_ended(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()], models=ONE_SLOT) as server:
        running = await begun(server)
        waiting = asyncio.create_task(refusal(stream(server)))
        await sent(server, 2)
        _, queued = await active(server)

        await cancelling(server, queued.request_id)

        ended = await waiting  # although the engine stands still
        assert ended.verdict == "CANCELLED CANCELLED_BY_OPERATOR"
        assert ended.usage is None
        assert [each.state for each in await active(server)] == [REQUEST_STATE_RUNNING]
        running.cancel()


async def test_a_cancellation_stands_in_the_audit_log_with_its_reason(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()]) as server:
        call = await begun(server)
        (found,) = await active(server)
        await cancelling(server, found.request_id, validate_only=True)
        await cancelling(server, found.request_id)
        await refusal(call)

    operations = [entry for entry in entries(tmp_path / AUDIT["directory"]) if isinstance(entry, Operated)]
    (entry,) = operations
    assert (entry.operation, entry.target, entry.justification) == ("cancel_request", found.request_id, "It hangs.")
    assert len(entry.by) == 1
    assert "olga" not in entry.by[0]


async def test_a_check_ends_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()]) as server:
        await begun(server)
        (found,) = await active(server)

        answer = await cancelling(server, found.request_id, validate_only=True)

        assert answer.request.request_id == found.request_id
        assert [each.request_id for each in await active(server)] == [found.request_id]


async def test_a_call_that_is_not_under_way_cannot_be_ended(server: Server) -> None:
    for validate_only in (False, True):
        refused = await refusal(cancelling(server, "none", validate_only=validate_only))

        assert refused.verdict == "NOT_FOUND REQUEST_UNKNOWN"


async def test_pages_go_on_though_the_call_that_ended_one_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()], models=ONE_SLOT) as server:
        await begun(server)
        waiting = [stream(server), stream(server)]
        await sent(server, 3)
        expected = [each.request_id for each in await active(server)]

        async def page(token: str) -> tuple[list[str], str]:
            request = ListActiveRequestsRequest(page_size=1, page_token=token)
            answer = await server.engines.ListActiveRequests(request, metadata=READER, timeout=LONG_SECONDS)
            return [each.request_id for each in answer.requests], answer.next_page_token

        first, token = await page("")
        await cancelling(server, expected[0])

        async def is_gone() -> bool:
            return len(await active(server)) == 2

        await until(is_gone)
        second, token = await page(token)
        third, end = await page(token)

        assert [*first, *second, *third] == expected
        assert end == ""
        for call in waiting:
            call.cancel()


Ask = Callable[[Server, Any], Any]
ASKS: dict[str, tuple[str, Ask]] = {
    "load": ("engine:read", lambda server, who: server.engines.GetLoad(GetLoadRequest(), metadata=who)),
    "list": (
        "engine:read",
        lambda server, who: server.engines.ListActiveRequests(ListActiveRequestsRequest(), metadata=who),
    ),
    "load model": (
        "engine:manage",
        lambda server, who: server.engines.LoadModel(LoadModelRequest(model=SMALL, justification="x"), metadata=who),
    ),
    "unload model": (
        "engine:manage",
        lambda server, who: server.engines.UnloadModel(
            UnloadModelRequest(model=SMALL, justification="x"), metadata=who
        ),
    ),
    "drain": (
        "engine:manage",
        lambda server, who: server.engines.Drain(DrainRequest(justification="x"), metadata=who),
    ),
    "cancel": ("engine:manage", lambda server, who: cancelling(server, "any", metadata=who)),
}


@pytest.mark.parametrize(("scope", "ask"), ASKS.values(), ids=ASKS)
async def test_each_method_needs_its_scope_and_no_other_will_do(server: Server, scope: str, ask: Ask) -> None:
    others = {"engine:read", "engine:manage"} - {scope}
    everything_else = bearer(scope=f"generate:{SMALL} release:read release:withdraw findings:manage {' '.join(others)}")

    refused = await refusal(ask(server, everything_else))

    assert refused.verdict == "PERMISSION_DENIED SCOPE_MISSING"
    assert refused.facts == {"required_scope": scope}


@pytest.mark.parametrize(("scope", "ask"), ASKS.values(), ids=ASKS)
@pytest.mark.parametrize(
    ("who", "verdict"),
    [
        ((), "UNAUTHENTICATED TOKEN_MISSING"),
        (bearer("no-token"), "UNAUTHENTICATED TOKEN_MALFORMED"),
        (bearer(client_id="lab-app", scope=f"generate:{SMALL}"), "PERMISSION_DENIED SCOPE_MISSING"),
    ],
    ids=["no token", "bad token", "partner"],
)
async def test_strangers_and_partners_are_turned_away(
    tmp_path: Path, scope: str, ask: Ask, who: Any, verdict: str
) -> None:
    async with serving(tmp_path, agreements=[open_agreement()]) as server:
        assert (await refusal(ask(server, who))).verdict == verdict


async def test_where_callers_need_no_token_operators_still_do(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 64}}
    async with serving(tmp_path, plan) as server:
        for scope, ask in ASKS.values():
            refused = await refusal(ask(server, ()))

            assert (refused.verdict, refused.facts) == ("PERMISSION_DENIED SCOPE_MISSING", {"required_scope": scope})


async def test_each_call_of_an_operator_is_counted_and_logged(
    tmp_path: Path, logs: list[MutableMapping[str, Any]]
) -> None:
    async with serving(tmp_path, metrics=METRICS) as server:
        await load(server)
        metrics = await server.metrics()

    labels = 'grpc_code="OK",grpc_method="GetLoad",grpc_service="sluicegate.v1.EngineService"'
    assert metrics[f"grpc_server_handled_total{{{labels}}}"] == 1
    assert "sluicegate.v1.EngineService/GetLoad" in [entry.get("method") for entry in logs]


async def test_a_drain_can_be_watched_to_its_end(tmp_path: Path) -> None:
    drain = {"announce_seconds": 0, "grace_seconds": LONG_SECONDS}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(tmp_path, agreements=[open_agreement()], drain=drain))
        call = await begun(server)
        draining = asyncio.create_task(server.running.draining.drain(asyncio.Event()))

        (found,) = await active(server)
        await cancelling(server, found.request_id)

        assert (await refusal(call)).verdict == "CANCELLED CANCELLED_BY_OPERATOR"
        await draining
        assert await active(server) == []


def drains(server: Server, *, validate_only: bool = False) -> Any:
    request = DrainRequest(justification="New kernel.", validate_only=validate_only)
    return server.engines.Drain(request, metadata=OPERATOR, timeout=LONG_SECONDS)


async def test_a_drain_is_told_by_health_before_its_answer_and_asked_for_once(tmp_path: Path) -> None:
    drain = {"announce_seconds": 1.5, "grace_seconds": 20}
    async with serving(tmp_path, agreements=[open_agreement()], drain=drain) as server:
        call = await begun(server)
        checked = await drains(server, validate_only=True)
        before = (await server.health.Check(HealthCheckRequest())).status, server.running.draining.asked.is_set()

        answer = await drains(server)
        health = (await server.health.Check(HealthCheckRequest())).status
        again = await drains(server)

        assert before == (SERVING, False)
        assert (health, server.running.draining.asked.is_set()) == (NOT_SERVING, True)
        assert answer == again == checked
        seconds = answer.announce_duration.ToNanoseconds() / 1e9, answer.grace_duration.ToNanoseconds() / 1e9
        assert (seconds, answer.active_requests) == ((1.5, 20.0), 1)
        call.cancel()
    operations = [entry for entry in entries(tmp_path / AUDIT["directory"]) if isinstance(entry, Operated)]
    assert [(entry.operation, entry.target, entry.justification) for entry in operations] == [
        ("drain", "replica", "New kernel.")
    ] * 2
