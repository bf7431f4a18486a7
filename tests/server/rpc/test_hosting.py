"""Models are unloaded and loaded while others stream: who notices, what ends, and what stays as it is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from audit_logs import entries
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import (
    AUDIT,
    LONG_SECONDS,
    METRICS,
    SCRIPTED_WEIGHTS,
    SMALL,
    Engine,
    Server,
    bearer,
    connected,
    demo_plan,
    refusal,
    serving,
    until,
)
from scripted_drafts import ScriptedDraftModel

from sluicegate.server.audit.entries import Operated
from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.messages import Load
from sluicegate.server.engine.runner import Runner
from sluicegate.v1.engine_service_pb2 import GetLoadRequest, LoadModelRequest, UnloadModelRequest
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import StreamGenerateRequest
from sluicegate.v1.model_service_pb2 import (
    MODEL_STATE_READY,
    MODEL_STATE_UNAVAILABLE,
    GetModelRequest,
)

MEDIUM = "gpt2-355m"
BOTH = {SMALL: {"device": "cpu", "slots": 4}, MEDIUM: {"device": "cpu", "slots": 4}}
SERVING, NOT_SERVING = 1, 2
NOT_READY = "UNAVAILABLE MODEL_NOT_READY"
AT_ONCE = 0.0
OPERATOR = bearer(sub="olga", client_id="operations", scope="engine:read engine:manage")


class Loads:
    """What the engine is asked to load, in turn; `then` is done before each model but the first ones."""

    def __init__(self, *drafters: str) -> None:
        self.drafters = drafters
        self.seen: list[Load] = []
        self.engine = Engine()
        self.then: Callable[[], None] = lambda: None

    def __call__(self, load: Load) -> Runner:
        self.seen.append(load)
        if len(self.seen) > len(BOTH):
            self.then()
        runner = self.engine.load(load)
        return ScriptedDraftModel(runner.facts, self.engine.script) if load.model in self.drafters else runner


def unloading(
    server: Server, model: str = MEDIUM, grace: float | None = AT_ONCE, *, validate_only: bool = False
) -> Any:
    request = UnloadModelRequest(model=model, justification="Room for others.", validate_only=validate_only)
    if grace is not None:
        request.grace_duration.FromNanoseconds(round(grace * 1e9))
    return server.engines.UnloadModel(request, metadata=OPERATOR, timeout=LONG_SECONDS)


def loading(server: Server, model: str = MEDIUM, *, validate_only: bool = False) -> Any:
    request = LoadModelRequest(model=model, justification="Needed again.", validate_only=validate_only)
    return server.engines.LoadModel(request, metadata=OPERATOR, timeout=LONG_SECONDS)


def stream(server: Server, model: str, tokens: int = 50) -> Any:
    config = GenerationConfig(max_output_tokens=tokens, seed=7)
    request = StreamGenerateRequest(model=model, text="a", config=config)
    return server.generation.StreamGenerate(request, metadata=bearer(), timeout=LONG_SECONDS)


async def text(call: Any) -> str:
    """The whole of a stream that ends by its own limit."""
    said = ""
    while (message := await call.read()) is not grpc.aio.EOF:
        said += message.delta.text
    return said


async def begun(server: Server, engine: Engine, model: str) -> Any:
    """A stream that has said two tokens and waits for its engine."""
    engine.pause_after(2)
    call = stream(server, model)
    while (await call.read()).usage.output_tokens < 2:
        pass
    return call


async def state(server: Server, model: str = MEDIUM) -> int:
    answer = await server.models.GetModel(GetModelRequest(model=model), metadata=bearer(), timeout=LONG_SECONDS)
    return answer.model.state


async def test_others_stream_on_to_the_token_while_a_model_is_unloaded_and_loaded(tmp_path: Path) -> None:
    loads, may_load, is_loading = Loads(), threading.Event(), threading.Event()

    def hold() -> None:
        is_loading.set()
        may_load.wait()

    loads.then = hold
    async with serving(tmp_path, models=BOTH, load=loads) as server:
        undisturbed = await text(stream(server, SMALL, 400))
        across = stream(server, SMALL, 400)
        await across.read()

        await unloading(server)
        back = asyncio.create_task(until_answered(loading(server)))
        try:
            await asyncio.to_thread(is_loading.wait)
            within = await text(stream(server, SMALL, 400))  # begins and ends while the load is under way
            before = await state(server)
        finally:
            may_load.set()
        answer = await back

        assert (before, answer.model.state, answer.model.slots) == (MODEL_STATE_UNAVAILABLE, MODEL_STATE_READY, 4)
        assert undisturbed
        assert within == undisturbed
        assert undisturbed.endswith(await text(across))
        assert await text(stream(server, MEDIUM, 400)) == undisturbed  # the script's, whatever the model


async def until_answered(call: Any) -> Any:
    return await call


async def test_who_asks_of_a_model_hears_that_it_is_out_and_back(tmp_path: Path) -> None:
    probes = {"listen": "127.0.0.1:0"}
    async with serving(tmp_path, models=BOTH, metrics=METRICS, health=probes, load=Loads()) as server:
        watch = server.health.Watch(health_pb2.HealthCheckRequest(service=f"models/{MEDIUM}"), metadata=bearer())
        heard = [(await watch.read()).status]

        out = await unloading(server)
        heard.append((await watch.read()).status)
        refused = await refusal(stream(server, MEDIUM))
        out_state, out_metric = await state(server), await is_ready(server)
        probe = await probed(server)
        back = await loading(server)
        heard.append((await watch.read()).status)

        assert heard == [SERVING, NOT_SERVING, SERVING]
        assert (out.model.state, out.model.slots, out.model.weights_sha256) == (MODEL_STATE_UNAVAILABLE, 0, "")
        assert (refused.verdict, refused.retry_after is not None) == (NOT_READY, True)
        assert (out_state, out_metric) == (MODEL_STATE_UNAVAILABLE, 0.0)
        assert probe == SERVING  # else the replica would lose the callers of its other models
        assert (back.model.state, back.model.weights_sha256) == (MODEL_STATE_READY, SCRIPTED_WEIGHTS)
        assert (await state(server), await is_ready(server)) == (MODEL_STATE_READY, 1.0)
        watch.cancel()


async def is_ready(server: Server) -> float:
    return (await server.metrics())[f'sluicegate_model_ready{{model="{MEDIUM}"}}']


async def probed(server: Server) -> int:
    """What the probe of all models hears."""
    assert server.running.health_address is not None
    async with connected(server.running.health_address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service="models"), timeout=LONG_SECONDS)
        status: int = answer.status
        return status


async def test_calls_of_the_model_may_go_on_for_their_grace_while_no_new_ones_begin(tmp_path: Path) -> None:
    loads = Loads()
    async with serving(tmp_path, models=BOTH, load=loads) as server:
        call = await begun(server, loads.engine, MEDIUM)
        out = asyncio.create_task(until_answered(unloading(server, grace=LONG_SECONDS)))

        async def is_retired() -> bool:
            return await state(server) == MODEL_STATE_UNAVAILABLE

        await until(is_retired)
        refused = await refusal(stream(server, MEDIUM))
        waited = not out.done()
        loads.engine.resume()
        while (message := await call.read()) is not grpc.aio.EOF:
            last = message
        await out

        assert (refused.verdict, waited) == (NOT_READY, True)
        assert (last.WhichOneof("event"), last.usage.output_tokens) == ("finished", 50)


async def test_what_still_runs_after_the_grace_ends_with_its_usage(tmp_path: Path) -> None:
    loads = Loads()
    async with serving(tmp_path, models=BOTH, load=loads) as server:
        call = await begun(server, loads.engine, MEDIUM)
        out = asyncio.create_task(until_answered(unloading(server)))

        ended = await refusal(call)
        loads.engine.resume()
        await out

        assert (ended.verdict, ended.usage) == (NOT_READY, (1, 2))
        assert ended.retry_after is not None


async def test_both_can_be_asked_for_twice_and_checked_first(tmp_path: Path) -> None:
    loads = Loads()
    async with serving(tmp_path, models=BOTH, load=loads) as server:
        checked = await unloading(server, validate_only=True)
        await unloading(server)
        again = await unloading(server)
        still_out = await loading(server, validate_only=True)
        await loading(server)
        still_in = await loading(server)

    states = [answer.model.state for answer in (checked, again, still_out, still_in)]
    assert states == [MODEL_STATE_READY, MODEL_STATE_UNAVAILABLE, MODEL_STATE_UNAVAILABLE, MODEL_STATE_READY]
    assert [load.model for load in loads.seen] == [SMALL, MEDIUM, MEDIUM]
    operations = [entry for entry in entries(tmp_path / AUDIT["directory"]) if isinstance(entry, Operated)]
    assert [(entry.operation, entry.target, entry.justification) for entry in operations] == [
        *[("unload_model", MEDIUM, "Room for others.")] * 2,
        *[("load_model", MEDIUM, "Needed again.")] * 2,
    ]


async def test_a_load_that_fails_is_told_with_its_problem_and_leaves_others_alone(tmp_path: Path) -> None:
    loads = Loads()
    failures = iter([ModelLoadError("the digest is another")])

    def fail_once() -> None:
        if (failure := next(failures, None)) is not None:
            raise failure

    loads.then = fail_once
    async with serving(tmp_path, models=BOTH, load=loads) as server:
        await unloading(server)

        refused = await refusal(loading(server))
        told = await text(stream(server, SMALL))
        out = await state(server)
        await loading(server)

        assert refused.verdict == "FAILED_PRECONDITION MODEL_LOAD_FAILED"
        assert refused.facts == {"problem": "the digest is another"}
        assert (told != "", out) == (True, MODEL_STATE_UNAVAILABLE)
        assert await text(stream(server, MEDIUM)) == told


async def test_a_model_whose_drafter_is_out_waits_for_it_and_keeps_it_in(tmp_path: Path) -> None:
    loads, may_load, is_loading = Loads(SMALL), threading.Event(), threading.Event()

    def hold() -> None:
        is_loading.set()
        may_load.wait()

    drafted = {**BOTH, MEDIUM: {**BOTH[MEDIUM], "speculation": {"draft": SMALL}}}
    async with serving(tmp_path, models=drafted, load=loads) as server:
        needed = await refusal(unloading(server, SMALL))
        await unloading(server, MEDIUM)
        await unloading(server, SMALL)
        alone = await refusal(loading(server, MEDIUM))
        await loading(server, SMALL)
        loads.then = hold
        coming = asyncio.create_task(until_answered(loading(server, MEDIUM)))
        try:
            await asyncio.to_thread(is_loading.wait)
            about_to_be = await refusal(unloading(server, SMALL))
        finally:
            may_load.set()
        back = await coming

        rule = f"drafts for no other model; unload {MEDIUM} first"
        assert (needed.violations, about_to_be.violations) == ({"model": rule}, {"model": rule})
        assert alone.verdict == "FAILED_PRECONDITION MODEL_LOAD_FAILED"
        assert alone.facts == {"problem": f"{SMALL}, which drafts for it, is not loaded; load that first"}
        assert back.model.state == MODEL_STATE_READY
        assert await state(server, SMALL) == MODEL_STATE_READY


async def test_a_model_with_other_weights_than_are_pinned_now_is_to_go_out_first(tmp_path: Path) -> None:
    loads, plan = Loads(), demo_plan()
    async with serving(tmp_path, plan, models=BOTH, load=loads) as server:
        plan["models"][MEDIUM]["weights_sha256"] = "ab" * 32
        server.write_policy(plan)

        async def answers_no_more() -> bool:
            return await state(server) != MODEL_STATE_READY

        await until(answers_no_more)
        refused = await refusal(loading(server))

        assert refused.verdict == "FAILED_PRECONDITION MODEL_LOAD_FAILED"
        assert "unload the model first" in refused.facts["problem"]
        assert len(loads.seen) == len(BOTH)


async def test_what_is_loaded_again_is_what_the_policy_says_now(tmp_path: Path) -> None:
    loads, plan = Loads(), demo_plan()
    async with serving(tmp_path, plan, models=BOTH, load=loads) as server:
        await unloading(server)
        plan["models"][MEDIUM]["weights_sha256"] = SCRIPTED_WEIGHTS
        server.write_policy(plan)

        async def is_pinned() -> bool:
            await unloading(server)
            await loading(server)
            return loads.seen[-1].weights_sha256 == SCRIPTED_WEIGHTS

        await until(is_pinned)

    assert loads.seen[1].weights_sha256 is None


@pytest.mark.parametrize("ask", [unloading, loading], ids=["unload", "load"])
async def test_what_the_settings_do_not_have_is_refused(tmp_path: Path, ask: Callable[[Server, str], Any]) -> None:
    async with serving(tmp_path, models=BOTH, load=Loads()) as server:
        for model in ("gpt2-774m", "none"):
            refused = await refusal(ask(server, model))

            assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
            assert refused.violations == {"model": "is the id of a model of the settings"}


async def test_what_the_policy_no_longer_has_cannot_be_loaded(tmp_path: Path) -> None:
    plan = demo_plan()
    async with serving(tmp_path, plan, models=BOTH, load=Loads()) as server:
        await unloading(server)
        del plan["models"][MEDIUM]
        for stage in plan["stages"]:
            stage["open"].pop(MEDIUM, None)
            stage["requires"] = [each for each in stage.get("requires", []) if each.get("model") != MEDIUM]
        server.write_policy(plan)

        async def is_refused() -> bool:
            try:
                await loading(server, validate_only=True)
            except grpc.aio.AioRpcError:
                return True
            return False

        await until(is_refused)
        refused = await refusal(loading(server))

        assert refused.violations == {"model": "is the id of a model of the policy in force"}


async def test_an_engine_that_is_lost_comes_back_without_what_was_unloaded(tmp_path: Path) -> None:
    loads = Loads()
    async with serving(tmp_path, models=BOTH, load=loads) as server:
        await unloading(server)

        server.engine.lose()

        async def is_back() -> bool:
            answer = await server.engines.GetLoad(GetLoadRequest(), metadata=OPERATOR, timeout=LONG_SECONDS)
            (engine,) = answer.engines
            return engine.restarts == 1 and engine.alive

        await until(is_back)
        assert [await state(server, model) for model in (SMALL, MEDIUM)] == [MODEL_STATE_READY, MODEL_STATE_UNAVAILABLE]
        assert [load.model for load in loads.seen] == [SMALL, MEDIUM, SMALL]
        assert (await loading(server)).model.state == MODEL_STATE_READY
