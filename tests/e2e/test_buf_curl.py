"""buf curl, another client in Go (connect-go) that learns the API from the server's reflection."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from deployment import LAB_APP
from foreign import BUF, bearer, json_values, run
from google.rpc.error_details_pb2 import ErrorInfo
from real_server import RealServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def curl(server: RealServer, home: Path, *arguments: str) -> CompletedProcess[str]:
    *flags, path = arguments
    url = f"http://{server.address}{path}"
    return run(BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *flags, url, home=home)


def test_services_and_methods_are_listed_by_reflection(server: RealServer, tmp_path: Path) -> None:
    services = curl(server, tmp_path, "--list-services", "").stdout.split()
    methods = curl(server, tmp_path, "--list-methods", "").stdout.split()

    assert [name for name in services if name.startswith("sluicegate.")] == [
        "sluicegate.v1.AccessService",
        "sluicegate.v1.FindingService",
        "sluicegate.v1.GenerationService",
        "sluicegate.v1.ModelService",
        "sluicegate.v1.ProvenanceService",
        "sluicegate.v1.ReleaseService",
        "sluicegate.v1.WithdrawalService",
    ]
    assert "sluicegate.v1.GenerationService/StreamGenerate" in methods
    assert "sluicegate.v1.ModelService/WatchModels" in methods


def test_a_unary_call_is_answered(server: RealServer, tmp_path: Path) -> None:
    answered = curl(server, tmp_path, "-H", bearer(server.token()), "/sluicegate.v1.ModelService/ListModels")

    (listing,) = json_values(answered.stdout)
    assert answered.returncode == 0
    assert [model["id"] for model in listing["models"]] == ["demo-xs"]


def test_a_stream_comes_message_by_message(server: RealServer, tmp_path: Path) -> None:
    request = json.dumps({"model": "demo-s", "text": "It was", "config": {"maxOutputTokens": 6}})
    token = bearer(server.token(LAB_APP))

    streamed = curl(server, tmp_path, "-H", token, "-d", request, "/sluicegate.v1.GenerationService/StreamGenerate")

    messages = json_values(streamed.stdout)
    assert streamed.returncode == 0
    assert messages[0]["started"]["agreement"] == "agr-example-lab"
    assert messages[-1]["finished"]["outputTokens"] == 6


def test_a_refusal_shows_code_reason_and_details(server: RealServer, tmp_path: Path) -> None:
    token = server.token(scopes=("generate:demo-s",))
    request = json.dumps({"model": "demo-xs", "text": "It was"})

    refused = curl(
        server, tmp_path, "-H", bearer(token), "-d", request, "/sluicegate.v1.GenerationService/StreamGenerate"
    )

    (status,) = json_values(refused.stderr)
    (value,) = [detail["value"] for detail in status["details"] if detail["type"] == "google.rpc.ErrorInfo"]
    info = ErrorInfo.FromString(base64.b64decode(value + "=" * (-len(value) % 4)))
    assert refused.returncode != 0
    assert status["code"] == "permission_denied"
    assert (info.domain, info.reason) == ("sluicegate", "SCOPE_MISSING")
    assert info.metadata == {"required_scope": "generate:demo-xs"}
