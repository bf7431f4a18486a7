from __future__ import annotations

import json

import pytest
from client_server import FakeServer
from client_terminal import sluicegate

from sluicegate.v1 import model_service_pb2, reason_pb2

OPEN = model_service_pb2.Model(
    id="gpt2-124m",
    parameters=124_439_808,
    context_length=1024,
    stage="s1",
    open_to=model_service_pb2.AUDIENCE_PUBLIC,
    state=model_service_pb2.MODEL_STATE_READY,
    caller_access=model_service_pb2.CallerAccess(allowed=True, agreement="agr-1"),
    license="MIT",
)
CLOSED = model_service_pb2.Model(
    id="gpt2-1558m",
    open_to=model_service_pb2.AUDIENCE_PARTNER,
    state=model_service_pb2.MODEL_STATE_LOADING,
    caller_access=model_service_pb2.CallerAccess(reason=reason_pb2.REASON_AGREEMENT_REQUIRED),
)


def test_models_are_shown_with_what_the_caller_may_do(server: FakeServer) -> None:
    server.will("ListModels", [model_service_pb2.ListModelsResponse(models=[OPEN, CLOSED])])

    result = sluicegate("models", "--target", server.target)

    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1] == ["gpt2-124m", "124,439,808", "1024", "ready", "s1", "public", "allowed", "(agr-1)", "MIT"]
    assert lines[2] == ["gpt2-1558m", "loading", "partner", "AGREEMENT_REQUIRED"]


def test_a_caller_who_may_know_of_none_is_told_so(server: FakeServer) -> None:
    server.will("ListModels", [model_service_pb2.ListModelsResponse()])

    assert sluicegate("models", "--target", server.target).stdout == "no model is open to this caller\n"


def test_json_is_an_array(server: FakeServer) -> None:
    server.will("ListModels", [model_service_pb2.ListModelsResponse(models=[OPEN, CLOSED])])

    result = sluicegate("models", "--json", "--target", server.target)

    assert [each["id"] for each in json.loads(result.stdout)] == ["gpt2-124m", "gpt2-1558m"]


@pytest.mark.parametrize("arguments", [("--json",), ()])
def test_watching_shows_them_again_at_each_change(server: FakeServer, arguments: tuple[str, ...]) -> None:
    changes = [model_service_pb2.WatchModelsResponse(models=[each]) for each in (OPEN, CLOSED)]
    server.will("WatchModels", changes)

    result = sluicegate("models", "--watch", *arguments, "--target", server.target)

    assert result.stdout.index("gpt2-124m") < result.stdout.index("gpt2-1558m")
    assert result.exit_code == 0
