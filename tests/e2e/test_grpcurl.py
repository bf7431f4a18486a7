"""grpcurl, a client in Go that learns the API from the server's reflection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from certificates import Authority
from deployment import DEMO_MODELS, LAB_APP, Deployment, Hosted
from foreign import GRPCURL, bearer, json_values, run
from real_server import RealServer, real_server

from sluicegate.auth import certificate_thumbprint

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WHO_AM_I = "sluicegate.v1.AccessService/GetCallerIdentity"
STREAM = "sluicegate.v1.GenerationService/StreamGenerate"
UNAUTHENTICATED, PERMISSION_DENIED = 16, 7
STATUS_OFFSET = 64  # grpcurl exits with this plus the status code


def request(model: str) -> str:
    return json.dumps({"model": model, "text": "It was", "config": {"maxOutputTokens": 6, "seed": 3}})


def text_of(messages: list[dict[str, dict[str, str]]]) -> str:
    return "".join(message["delta"].get("text", "") for message in messages if "delta" in message)


def test_services_are_listed_by_reflection(server: RealServer) -> None:
    listed = run(GRPCURL, "-plaintext", server.address, "list")

    assert listed.stdout.split() == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "sluicegate.v1.AccessService",
        "sluicegate.v1.FindingService",
        "sluicegate.v1.GenerationService",
        "sluicegate.v1.ModelService",
        "sluicegate.v1.ProvenanceService",
        "sluicegate.v1.ReleaseService",
        "sluicegate.v1.WithdrawalService",
    ]


def test_a_service_is_described_by_reflection(server: RealServer) -> None:
    described = run(GRPCURL, "-plaintext", server.address, "describe", "sluicegate.v1.GenerationService")

    assert described.returncode == 0
    assert "rpc StreamGenerate (" in described.stdout
    assert "returns ( stream .sluicegate.v1.StreamGenerateResponse )" in described.stdout


def test_a_unary_call_is_answered(server: RealServer) -> None:
    answered = run(GRPCURL, "-plaintext", "-H", bearer(server.token()), server.address, WHO_AM_I)

    (identity,) = json_values(answered.stdout)
    assert answered.returncode == 0
    assert (identity["clientId"], identity["audience"], identity["stage"]) == ("app", "AUDIENCE_PUBLIC", "first")


def test_a_stream_comes_message_by_message(server: RealServer) -> None:
    token = bearer(server.token())

    streamed = run(GRPCURL, "-plaintext", "-H", token, "-d", request("demo-xs"), server.address, STREAM)

    messages = json_values(streamed.stdout)
    assert streamed.returncode == 0
    assert messages[0]["started"]["model"] == "demo-xs"
    assert text_of(messages)
    assert messages[-1]["finished"]["finishReason"] == "FINISH_REASON_MAX_OUTPUT_TOKENS"
    assert messages[-1]["usage"] == {"promptTokens": 2, "outputTokens": 6}


def test_a_finding_is_filed_once_and_read_back(server: RealServer) -> None:
    token = bearer(server.token(scopes=("findings:write", "findings:read")))
    service = "sluicegate.v1.FindingService"
    report = {"kind": "FINDING_KIND_OTHER", "severity": "FINDING_SEVERITY_LOW", "model": "demo-xs", "summary": "Odd."}
    body = json.dumps({**report, "clientRequestId": "mine-1"})

    filed = [
        run(GRPCURL, "-plaintext", "-H", token, "-d", body, server.address, f"{service}/CreateFinding")
        for _ in range(2)
    ]
    listed = run(GRPCURL, "-plaintext", "-H", token, server.address, f"{service}/ListFindings")

    (first,), (again,), (found,) = (json_values(answer.stdout) for answer in (*filed, listed))
    assert first == again
    assert [each for each in found["findings"] if each["id"] == first["finding"]["id"]] == [first["finding"]]
    assert report.items() <= first["finding"].items()


@pytest.mark.parametrize(
    ("headers", "method", "code", "reason"),
    [
        ((), WHO_AM_I, UNAUTHENTICATED, "TOKEN_MISSING"),
        (("authorization: Bearer no.real.token",), WHO_AM_I, UNAUTHENTICATED, "TOKEN_MALFORMED"),
        (None, STREAM, PERMISSION_DENIED, "MODEL_NOT_RELEASED"),
    ],
)
def test_a_refusal_shows_code_reason_and_details(
    server: RealServer, headers: tuple[str, ...] | None, method: str, code: int, reason: str
) -> None:
    sent = (bearer(server.token()),) if headers is None else headers
    flags = [flag for header in sent for flag in ("-H", header)]
    body = request("demo-s") if method == STREAM else "{}"

    refused = run(GRPCURL, "-plaintext", "-format-error", *flags, "-d", body, server.address, method)

    (status,) = json_values(refused.stderr)
    info, request_info = status["details"]
    assert refused.returncode == STATUS_OFFSET + code
    assert (status["code"], info["reason"], info["domain"]) == (code, reason, "sluicegate")
    assert status["message"]
    assert request_info["request_id"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def test_tls_with_a_bound_token_is_for_the_certificate_s_holder_only(authority: Authority, tmp_path: Path) -> None:
    own, other, of_server = map(authority.issue, ("lab", "other", "server"))
    key, client_ca = str(of_server.with_suffix(".key")), str(authority.certificate)
    tls = {"certificate": str(of_server), "key": key, "client_ca": client_ca}
    model = Hosted(directory=DEMO_MODELS / "demo-xs", open_to="partner")
    deployment = Deployment(tmp_path / "files", {"demo-xs": model}, tls=tls)
    deployment.write_agreement(token={"binding": "mtls"})
    bound = deployment.token(LAB_APP, certificate_thumbprint=certificate_thumbprint(own.read_bytes()))
    unbound = deployment.token(LAB_APP)

    with real_server(deployment) as server:

        def call(certificate: Path | None, token: str) -> tuple[int, str]:
            files: list[str | Path] = ["-cacert", authority.certificate]
            if certificate is not None:
                files += ["-cert", certificate, "-key", certificate.with_suffix(".key")]
            arguments = ["-connect-timeout", "5", "-H", bearer(token), "-d", request("demo-xs")]
            done = run(GRPCURL, *files, *arguments, server.address, STREAM)
            return done.returncode, done.stdout + done.stderr

        served, refused, unsafe, stranger = call(own, bound), call(other, bound), call(own, unbound), call(None, bound)

    assert served[0] == 0
    assert "FINISH_REASON_MAX_OUTPUT_TOKENS" in served[1]
    assert refused[0] == STATUS_OFFSET + UNAUTHENTICATED
    assert "TOKEN_BINDING_MISMATCH" in refused[1]
    assert unsafe[0] == STATUS_OFFSET + UNAUTHENTICATED
    assert "TOKEN_BINDING_REQUIRED" in unsafe[1]
    assert stranger[0] != 0
    assert "finished" not in stranger[1]
