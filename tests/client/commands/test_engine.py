from __future__ import annotations

import json

import grpc
from client_server import FakeServer, Refusal
from client_terminal import sluicegate
from google.protobuf.duration_pb2 import Duration

from sluicegate.v1 import engine_service_pb2 as pb
from sluicegate.v1.model_service_pb2 import MODEL_STATE_LOADING, MODEL_STATE_READY, MODEL_STATE_UNAVAILABLE

READY = pb.ModelLoad(
    model="m",
    state=MODEL_STATE_READY,
    queued_requests=3,
    running_sequences=2,
    slots=4,
    cache_bytes=96 << 20,
    device="cpu",
    dtype="float32",
    weights_sha256="ab" * 32,
)
ENGINE = pb.EngineLoad(device="cpu", alive=True, models=[READY])
RUNNING = pb.ActiveRequest(
    request_id="r-1",
    model="m",
    action="generate",
    state=pb.REQUEST_STATE_RUNNING,
    age=Duration(seconds=2, nanos=540_000_000),
    agreement="agr-1",
    issuer="https://issuer.example",
    client_id="app\x1b[2J",
    prompt_tokens=7,
    output_tokens=40,
)
ANONYMOUS = pb.ActiveRequest(request_id="r-2", model="m", action="score", state=pb.REQUEST_STATE_QUEUED)


def shown(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_the_load_is_a_table_of_models(server: FakeServer) -> None:
    server.will("GetLoad", [pb.GetLoadResponse(engines=[ENGINE])])

    result = sluicegate("engine", "load", "--target", server.target)

    heading, row = shown(result.stdout)
    assert result.exit_code == 0
    assert heading == "engine restarts model state queued running slots cache dtype weights"
    assert row == "cpu 0 m ready 3 2 4 96 MiB float32 abababababab"


def test_the_load_shows_an_engine_that_is_down(server: FakeServer) -> None:
    loading = pb.ModelLoad(model="m", state=MODEL_STATE_LOADING)
    server.will("GetLoad", [pb.GetLoadResponse(engines=[pb.EngineLoad(device="cpu", restarts=2, models=[loading])])])

    result = sluicegate("engine", "load", "--target", server.target)

    assert shown(result.stdout)[1] == "cpu (down) 2 m loading 0 0"


def test_scripts_get_the_load_by_engine(server: FakeServer) -> None:
    server.will("GetLoad", [pb.GetLoadResponse(engines=[ENGINE])])

    result = sluicegate("engine", "load", "--json", "--target", server.target)

    (engine,) = json.loads(result.stdout)
    assert (engine["device"], engine["alive"], engine["restarts"]) == ("cpu", True, 0)
    assert engine["models"][0]["weights_sha256"] == "ab" * 32


def test_calls_are_a_table_of_whose_they_are_and_how_far(server: FakeServer) -> None:
    server.will("ListActiveRequests", [pb.ListActiveRequestsResponse(requests=[RUNNING, ANONYMOUS])])

    result = sluicegate("engine", "requests", "--target", server.target)

    heading, first, second = shown(result.stdout)
    assert heading == "request model action state age tokens client agreement"
    assert first == "r-1 m generate running 2.5 s 7 + 40 app[2J of https://issuer.example agr-1"
    assert second == "r-2 m score queued 0.0 s 0 + 0 anonymous"


def test_no_calls_are_said(server: FakeServer) -> None:
    server.will("ListActiveRequests", [pb.ListActiveRequestsResponse()])

    result = sluicegate("engine", "requests", "--target", server.target)

    assert (result.exit_code, result.stdout) == (0, "no call is under way\n")


def test_scripts_get_an_array_of_calls(server: FakeServer) -> None:
    server.will("ListActiveRequests", [pb.ListActiveRequestsResponse(requests=[ANONYMOUS])])

    result = sluicegate("engine", "requests", "--json", "--target", server.target)

    (found,) = json.loads(result.stdout)
    assert (found["request_id"], found["state"], found["client_id"]) == ("r-2", "QUEUED", None)


def test_a_call_is_ended_with_a_reason(server: FakeServer) -> None:
    server.will("CancelRequest", [pb.CancelRequestResponse(request=RUNNING)])

    result = sluicegate("engine", "cancel", "r-1", "--justification", "It hangs.", "--target", server.target)

    assert result.exit_code == 0
    assert result.stdout.startswith("ended: r-1, generate with m by app")
    assert result.stdout.endswith("running, 40 tokens after 2.5 s\n")
    assert server.calls[0].request == pb.CancelRequestRequest(request_id="r-1", justification="It hangs.")


def test_a_dry_run_says_so(server: FakeServer) -> None:
    server.will("CancelRequest", [pb.CancelRequestResponse(request=ANONYMOUS)])

    result = sluicegate("engine", "cancel", "r-2", "--justification", "x", "--dry-run", "--target", server.target)

    assert result.stdout.startswith("would be ended: r-2, score with m by anonymous: queued")
    assert server.calls[0].asked(pb.CancelRequestRequest).validate_only


def test_a_call_that_is_gone_is_said_with_what_to_do(server: FakeServer) -> None:
    server.will("CancelRequest", [Refusal(code=grpc.StatusCode.NOT_FOUND, reason="REQUEST_UNKNOWN")])

    result = sluicegate("engine", "cancel", "r-9", "--justification", "x", "--json", "--target", server.target)

    assert result.exit_code == 1
    assert "use the id of a call that is under way on this replica" in result.stderr


def test_the_callers_port_is_not_the_place(server: FakeServer) -> None:
    server.will("GetLoad", [Refusal(code=grpc.StatusCode.UNIMPLEMENTED, reason="METHOD_UNKNOWN")])

    result = sluicegate("engine", "load", "--target", server.target)

    assert "the operators' listener" in result.stderr


def test_an_order_needs_its_reason(server: FakeServer) -> None:
    result = sluicegate("engine", "cancel", "r-1", "--target", server.target)

    assert result.exit_code == 2
    assert "--justification" in result.stderr
    assert server.calls == []


UNLOADED = pb.ModelLoad(model="m", state=MODEL_STATE_UNAVAILABLE)


def test_a_model_is_unloaded_and_loaded_with_a_reason(server: FakeServer) -> None:
    server.will("UnloadModel", [pb.UnloadModelResponse(model=UNLOADED)])
    server.will("LoadModel", [pb.LoadModelResponse(model=READY)])
    target = ("--target", server.target)

    out = sluicegate("engine", "unload-model", "m", "--justification", "Room.", "--grace", "1.5", *target)
    back = sluicegate("engine", "load-model", "m", "--justification", "Needed.", *target)

    assert (out.exit_code, out.stdout) == (0, "m now: unavailable\n")
    assert (back.exit_code, back.stdout) == (0, "m now: ready\n")
    unloaded, loaded = server.calls
    grace = Duration(seconds=1, nanos=500_000_000)
    assert unloaded.request == pb.UnloadModelRequest(model="m", justification="Room.", grace_duration=grace)
    assert loaded.request == pb.LoadModelRequest(model="m", justification="Needed.")


def test_a_model_s_load_can_be_checked_and_read_by_scripts(server: FakeServer) -> None:
    server.will("LoadModel", [pb.LoadModelResponse(model=UNLOADED)])
    order = ("engine", "load-model", "m", "--justification", "x", "--dry-run", "--target", server.target)

    shown, result = sluicegate(*order), sluicegate(*order, "--json")

    assert shown.stdout == "m nothing was done; now: unavailable\n"
    assert server.calls[0].asked(pb.LoadModelRequest).validate_only
    assert (json.loads(result.stdout)["state"], json.loads(result.stdout)["slots"]) == ("UNAVAILABLE", None)


def test_why_a_model_cannot_be_loaded_is_said(server: FakeServer) -> None:
    problem = {"problem": "the digest is another"}
    code = grpc.StatusCode.FAILED_PRECONDITION
    server.will("LoadModel", [Refusal(code=code, reason="MODEL_LOAD_FAILED", metadata=problem)])

    result = sluicegate("engine", "load-model", "m", "--justification", "x", "--target", server.target)

    assert result.exit_code == 1
    assert "mend this: the digest is another" in result.stderr


def will_drain(server: FakeServer, calls: int) -> None:
    durations = {"announce_duration": Duration(seconds=2), "grace_duration": Duration(seconds=30)}
    server.will("Drain", [pb.DrainResponse(active_requests=calls, **durations)])


def test_a_drain_says_how_long_it_may_take(server: FakeServer) -> None:
    will_drain(server, 1)

    result = sluicegate("engine", "drain", "--justification", "New kernel.", "--target", server.target)

    assert (result.exit_code, result.stdout) == (
        0,
        "draining: calls are taken for 2 s more, those under way end within 30 s after that; 1 call now\n",
    )
    assert server.calls[0].request == pb.DrainRequest(justification="New kernel.")


def test_a_drain_can_be_checked_and_read_by_scripts(server: FakeServer) -> None:
    will_drain(server, 0)

    shown = sluicegate("engine", "drain", "--justification", "x", "--dry-run", "--target", server.target)
    result = sluicegate("engine", "drain", "--justification", "x", "--json", "--target", server.target)

    assert shown.stdout.startswith("would be draining: ")
    assert server.calls[0].asked(pb.DrainRequest).validate_only
    assert json.loads(result.stdout) == {"announce_seconds": 2.0, "grace_seconds": 30.0, "active_requests": 0}
