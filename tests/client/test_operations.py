from __future__ import annotations

import math

import pytest
from client_server import FakeServer
from google.protobuf.duration_pb2 import Duration

from sluicegate.client import (
    ActiveRequest,
    Client,
    DrainPlan,
    EngineLoad,
    InvalidRequest,
    ModelLoad,
    ModelState,
    RequestState,
    SyncClient,
)
from sluicegate.v1 import engine_service_pb2 as pb
from sluicegate.v1.model_service_pb2 import MODEL_STATE_LOADING, MODEL_STATE_READY

READY = pb.ModelLoad(
    model="m",
    state=MODEL_STATE_READY,
    queued_requests=3,
    running_sequences=2,
    slots=4,
    cache_bytes=1 << 20,
    device="cuda:0",
    dtype="bfloat16",
    weights_sha256="ab" * 32,
)
LOADING = pb.ModelLoad(model="n", state=MODEL_STATE_LOADING)
LOAD = pb.GetLoadResponse(engines=[pb.EngineLoad(device="auto", alive=True, restarts=1, models=[READY, LOADING])])
RUNNING = pb.ActiveRequest(
    request_id="r-1",
    model="m",
    action="generate",
    state=pb.REQUEST_STATE_RUNNING,
    age=Duration(seconds=2, nanos=500_000_000),
    agreement="agr-1",
    issuer="https://issuer.example",
    client_id="app",
    prompt_tokens=7,
    output_tokens=40,
)
ANONYMOUS = pb.ActiveRequest(request_id="r-2", model="m", action="score", state=pb.REQUEST_STATE_QUEUED)
NEWER = pb.ActiveRequest(request_id="r-3", state=99)  # type: ignore[arg-type]  # only newer servers send it
ACTIVE = ActiveRequest(
    "r-1", "m", "generate", RequestState.RUNNING, 2.5, "agr-1", "https://issuer.example", "app", 7, 40
)


DRAINING = pb.DrainResponse(
    announce_duration=Duration(seconds=2, nanos=500_000_000), grace_duration=Duration(seconds=30), active_requests=3
)


async def test_the_load_is_told_by_engine_and_model(server: FakeServer) -> None:
    server.will("GetLoad", [LOAD])

    async with Client(server.target, token="t") as client:
        found = await client.engine.load()

    ready = ModelLoad("m", ModelState.READY, 3, 2, 4, 1 << 20, "cuda:0", "bfloat16", "ab" * 32)
    loading = ModelLoad("n", ModelState.LOADING, 0, 0, None, None, None, None, None)
    assert found == (EngineLoad("auto", alive=True, restarts=1, models=(ready, loading)),)


async def test_calls_of_all_pages_are_one_list(server: FakeServer) -> None:
    pages = [
        pb.ListActiveRequestsResponse(requests=[RUNNING], next_page_token="r-1"),
        pb.ListActiveRequestsResponse(requests=[ANONYMOUS, NEWER]),
    ]
    server.will("ListActiveRequests", [pages[0]], [pages[1]])

    async with Client(server.target, token="t") as client:
        first, second, third = await client.engine.requests()

    asked = [call.asked(pb.ListActiveRequestsRequest) for call in server.calls]
    assert [(each.page_size, each.page_token) for each in asked] == [(100, ""), (100, "r-1")]
    assert first == ACTIVE
    assert (second.state, second.agreement, second.client_id, second.issuer) == (RequestState.QUEUED, None, None, None)
    assert third.state is RequestState.UNSPECIFIED


@pytest.mark.parametrize("validate_only", [False, True])
async def test_an_operator_ends_a_call(server: FakeServer, validate_only: bool) -> None:
    server.will("CancelRequest", [pb.CancelRequestResponse(request=RUNNING)])

    async with Client(server.target, token="t") as client:
        ended = await client.engine.cancel("r-1", "It hangs.", validate_only=validate_only)

    assert ended == ACTIVE
    assert server.calls[0].request == pb.CancelRequestRequest(
        request_id="r-1", justification="It hangs.", validate_only=validate_only
    )


@pytest.mark.parametrize("validate_only", [False, True])
async def test_an_operator_loads_a_model(server: FakeServer, validate_only: bool) -> None:
    server.will("LoadModel", [pb.LoadModelResponse(model=LOADING)])

    async with Client(server.target, token="t") as client:
        model = await client.engine.load_model("n", "Needed.", validate_only=validate_only)

    assert (model.model, model.state) == ("n", ModelState.LOADING)
    assert server.calls[0].request == pb.LoadModelRequest(
        model="n", justification="Needed.", validate_only=validate_only
    )


@pytest.mark.parametrize("grace", [None, 0.0, 2.5])
async def test_an_operator_unloads_a_model_with_or_without_a_word_on_its_calls(
    server: FakeServer, grace: float | None
) -> None:
    server.will("UnloadModel", [pb.UnloadModelResponse(model=LOADING)])

    async with Client(server.target, token="t") as client:
        model = await client.engine.unload_model("n", "Room.", grace_seconds=grace)

    request = server.calls[0].asked(pb.UnloadModelRequest)
    assert model.model == "n"
    assert (request.model, request.justification, request.validate_only) == ("n", "Room.", False)
    told = request.grace_duration.ToNanoseconds() / 1e9 if request.HasField("grace_duration") else None
    assert told == grace


async def test_a_grace_that_is_no_span_of_time_is_refused_here(server: FakeServer) -> None:
    async with Client(server.target, token="t") as client:
        with pytest.raises(InvalidRequest) as refused:
            await client.engine.unload_model("n", "Room.", grace_seconds=math.inf)

    assert [each.field for each in refused.value.field_violations] == ["grace_duration"]


@pytest.mark.parametrize("validate_only", [False, True])
async def test_an_operator_drains_a_replica(server: FakeServer, validate_only: bool) -> None:
    server.will("Drain", [DRAINING])

    async with Client(server.target, token="t") as client:
        plan = await client.engine.drain("New kernel.", validate_only=validate_only)

    assert plan == DrainPlan(announce_seconds=2.5, grace_seconds=30.0, active_requests=3)
    assert server.calls[0].request == pb.DrainRequest(justification="New kernel.", validate_only=validate_only)


async def test_an_id_that_is_no_text_is_refused_here(server: FakeServer) -> None:
    async with Client(server.target, token="t") as client:
        with pytest.raises(InvalidRequest) as refused:
            await client.engine.cancel(7, "x")  # type: ignore[arg-type]

    assert [each.field for each in refused.value.field_violations] == ["request_id"]


def test_without_an_event_loop_it_is_the_same(server: FakeServer) -> None:
    server.will("GetLoad", [LOAD])
    server.will("ListActiveRequests", [pb.ListActiveRequestsResponse(requests=[RUNNING])])
    server.will("CancelRequest", [pb.CancelRequestResponse(request=RUNNING)])
    server.will("Drain", [DRAINING])
    server.will("LoadModel", [pb.LoadModelResponse(model=READY)])
    server.will("UnloadModel", [pb.UnloadModelResponse(model=LOADING)])

    with SyncClient(server.target, token="t") as client:
        (engine,) = client.engine.load()
        listed = client.engine.requests()
        ended = client.engine.cancel("r-1", "It hangs.", validate_only=True)
        plan = client.engine.drain("New kernel.", validate_only=True)
        back = client.engine.load_model("m", "Needed.", validate_only=True)
        out = client.engine.unload_model("n", "Room.", grace_seconds=1.0, validate_only=True)

    assert [model.model for model in engine.models] == ["m", "n"]
    assert (listed, ended) == ((ACTIVE,), ACTIVE)
    assert plan.active_requests == 3
    assert (back.model, out.model) == ("m", "n")
    cancelled, drained, loaded, unloaded = server.calls[-4:]
    assert cancelled.asked(pb.CancelRequestRequest).validate_only
    assert drained.asked(pb.DrainRequest).validate_only
    assert loaded.asked(pb.LoadModelRequest).validate_only
    request = unloaded.asked(pb.UnloadModelRequest)
    assert (request.validate_only, request.grace_duration.seconds) == (True, 1)
