"""Taking the server out of service: who is told, what may still run, and how the rest ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from harness import LONG_SECONDS, METRICS, SMALL, Server, bearer, connected, refusal, serving, until

from sluicegate.server.models import HostedModel
from sluicegate.server.request import Prompt
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest, ScoreRequest, StreamGenerateRequest
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub
from sluicegate.v1.model_service_pb2 import WatchModelsRequest
from sluicegate.v1.model_service_pb2_grpc import ModelServiceStub

SERVING, NOT_SERVING = 1, 2
FOREVER = 300.0
"""An announcement that only someone in a hurry ends."""
PATIENT = {"announce_seconds": 0, "grace_seconds": LONG_SECONDS}
ONE_SLOT = {SMALL: {"device": "cpu", "slots": 1}}


def stream(server: Server, tokens: int) -> Any:
    request = StreamGenerateRequest(model=SMALL, text="The", config=GenerationConfig(max_output_tokens=tokens))
    call: Any = server.generation.StreamGenerate(request, metadata=bearer(), timeout=LONG_SECONDS)
    return call


async def begun(server: Server, tokens: int) -> Any:
    """A stream that has told its start."""
    call = stream(server, tokens)
    assert (await call.read()).HasField("started")
    return call


def drained(server: Server, hurry: asyncio.Event | None = None) -> asyncio.Task[None]:
    return asyncio.create_task(server.running.draining.drain(hurry or asyncio.Event()))


async def test_a_stream_under_way_may_end_by_itself(tmp_path: Path) -> None:
    async with serving(tmp_path, drain=PATIENT) as server:
        server.engine.pause_after(2)
        call = await begun(server, 5)

        draining = drained(server)
        server.engine.resume()
        messages = [message async for message in _rest(call)]
        await draining

        assert messages[-1].HasField("finished")
        assert messages[-1].usage.output_tokens == 5


async def _rest(call: Any) -> Any:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


async def test_a_call_that_is_not_live_yet_may_end_by_itself_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encoding, encoded = HostedModel.encode, asyncio.Event(), asyncio.Event()

    async def encode_slowly(self: HostedModel, prompt: Prompt) -> list[int]:
        encoding.set()
        await encoded.wait()
        return await encode(self, prompt)

    monkeypatch.setattr(HostedModel, "encode", encode_slowly)
    async with serving(tmp_path, drain=PATIENT) as server:
        call = stream(server, 5)
        reading = asyncio.create_task(_all(call))
        await encoding.wait()

        draining = drained(server)
        await asyncio.sleep(0.2)
        encoded.set()
        messages = await reading
        await draining

        assert messages[-1].HasField("finished")


async def _all(call: Any) -> list[Any]:
    return [message async for message in _rest(call)]


async def test_a_stream_that_does_not_end_in_time_is_ended_with_its_usage(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.engine.pause_after(3)
        call = await begun(server, 50)
        while (await call.read()).usage.output_tokens < 3:
            pass

        await drained(server)

        refused = await refusal(call)
        assert refused.verdict == "UNAVAILABLE SERVER_DRAINING"
        assert refused.usage == (1, 3)
        assert refused.retry_after is None


async def test_a_call_in_the_queue_is_ended_too(tmp_path: Path) -> None:
    async with serving(tmp_path, models=ONE_SLOT, metrics=METRICS) as server:
        server.engine.pause_after(1)
        running = await begun(server, 50)
        waiting = stream(server, 5)
        whole: Any = server.generation.Generate(
            GenerateRequest(model=SMALL, text="The"), metadata=bearer(), timeout=LONG_SECONDS
        )
        score: Any = server.generation.Score(
            ScoreRequest(model=SMALL, text="The"), metadata=bearer(), timeout=LONG_SECONDS
        )
        reading = [asyncio.create_task(refusal(call)) for call in (waiting, whole, score)]
        path = 'grpc_service="sluicegate.v1.GenerationService"'

        async def have_all_begun() -> bool:
            samples = await server.metrics()
            started = [samples[f'grpc_server_started_total{{grpc_method="{name}",{path}}}'] for name in METHODS]
            return started == [2, 1, 1]

        await until(have_all_begun)

        await drained(server)

        verdicts = [(await task).verdict for task in reading] + [(await refusal(running)).verdict]
        assert verdicts == ["UNAVAILABLE SERVER_DRAINING"] * 4


METHODS = ("StreamGenerate", "Generate", "Score")


async def test_health_says_so_first_while_calls_are_still_taken(tmp_path: Path) -> None:
    hurry = asyncio.Event()
    async with serving(tmp_path, drain={"announce_seconds": FOREVER, "grace_seconds": 0}) as server:
        watches = {
            name: server.health.Watch(HealthCheckRequest(service=name), metadata=bearer())
            for name in ("", "sluicegate.v1.GenerationService", f"models/{SMALL}")
        }
        before = [(await watch.read()).status for watch in watches.values()]

        draining = drained(server, hurry)
        during = [(await watch.read()).status for watch in watches.values()]
        check = await server.health.Check(HealthCheckRequest())
        call = stream(server, 5)
        messages = [message async for message in _rest(call)]
        hurry.set()
        await draining

        assert before == [SERVING] * 3
        assert during == [NOT_SERVING] * 3
        assert check.status == NOT_SERVING
        assert messages[-1].usage.output_tokens == 5
        assert {(await refusal(watch)).verdict for watch in watches.values()} == {"UNAVAILABLE SERVER_DRAINING"}


async def test_watches_of_models_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        watch: Any = server.models.WatchModels(WatchModelsRequest(), metadata=bearer())
        await watch.read()

        await drained(server)

        assert (await refusal(watch)).verdict == "UNAVAILABLE SERVER_DRAINING"


async def test_afterwards_nobody_is_let_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await drained(server)

        async with connected(server.target) as channel:
            call: Any = GenerationServiceStub(channel).Generate(
                GenerateRequest(model=SMALL, text="The"), metadata=bearer(), timeout=LONG_SECONDS
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call

        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_hurry_ends_both_waits(tmp_path: Path) -> None:
    hurry = asyncio.Event()
    hurry.set()
    async with serving(tmp_path, drain={"announce_seconds": FOREVER, "grace_seconds": FOREVER}) as server:
        server.engine.pause_after(1)
        call = await begun(server, 50)

        await drained(server, hurry)

        assert (await refusal(call)).verdict == "UNAVAILABLE SERVER_DRAINING"


async def test_a_server_that_is_left_without_a_drain_ends_at_once(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with serving(tmp_path, drain={"announce_seconds": FOREVER, "grace_seconds": FOREVER}) as server:
            channel = await stack.enter_async_context(connected(server.target))
            watch: Any = ModelServiceStub(channel).WatchModels(WatchModelsRequest(), metadata=bearer())
            await watch.read()

        with pytest.raises(grpc.aio.AioRpcError):
            [message async for message in _rest(watch)]
