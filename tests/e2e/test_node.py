"""Node's @grpc/grpc-js with a reflection client: node_client.js."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from foreign import run
from real_server import RealServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CLIENT = Path(__file__).with_name("node_client.js")
OK, PERMISSION_DENIED = 0, 7


def node(server: RealServer, *arguments: str) -> Any:
    done = run("node", CLIENT, server.address, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_services_are_listed_by_reflection(server: RealServer) -> None:
    services = node(server, "list")["services"]

    assert "sluicegate.v1.GenerationService" in services
    assert "grpc.health.v1.Health" in services


def test_a_unary_call_is_answered(server: RealServer) -> None:
    answered = node(server, "call", "sluicegate.v1.AccessService/GetCallerIdentity", "{}", server.token())

    assert answered["code"] == OK
    assert answered["messages"][0]["audience"] == "AUDIENCE_PUBLIC"


def test_a_stream_comes_message_by_message(server: RealServer) -> None:
    request = json.dumps({"model": "demo-xs", "text": "It was", "config": {"maxOutputTokens": 6}})

    streamed = node(server, "call", "sluicegate.v1.GenerationService/StreamGenerate", request, server.token())

    events = [message["event"] for message in streamed["messages"]]
    assert streamed["code"] == OK
    assert (events[0], events[-1], set(events[1:-1])) == ("started", "finished", {"delta"})
    assert streamed["messages"][-1]["usage"] == {"promptTokens": 2, "outputTokens": 6}


def test_a_refusal_carries_details_that_reflection_can_decode(server: RealServer) -> None:
    request = json.dumps({"model": "demo-next", "text": "It was"})

    refused = node(server, "call", "sluicegate.v1.GenerationService/StreamGenerate", request, server.token())

    assert (refused["code"], refused["messages"]) == (PERMISSION_DENIED, [])
    assert refused["text"] == "this model is not open to this caller at the active stage"
    info, request_info = refused["details"]
    assert info["type"] == "google.rpc.ErrorInfo"
    assert (info["reason"], info["domain"]) == ("MODEL_NOT_RELEASED", "sluicegate")
    assert info["metadata"] == {"stage": "first"}
    assert request_info["type"] == "google.rpc.RequestInfo"


def test_fields_that_break_their_rules_are_named_in_the_details(server: RealServer) -> None:
    request = json.dumps({"model": "demo-xs", "text": "It was", "config": {"topP": 2}})

    refused = node(server, "call", "sluicegate.v1.GenerationService/Generate", request, server.token())

    (bad_request,) = [each for each in refused["details"] if each["type"] == "google.rpc.BadRequest"]
    assert [violation["field"] for violation in bad_request["field_violations"]] == ["config.top_p"]
