"""JSON over HTTP: curl against Envoy with the chart's configuration, before a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from client_server import Refusal, delta, serving, started
from envoy_proxy import Envoy, configuration, envoy
from foreign import bearer, json_values, run
from http_bindings import http_bindings
from real_server import RealServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SMALL = "/v1/models/demo-xs"
ASKED = {"text": "It was", "config": {"maxOutputTokens": 6, "seed": "9007199254740993"}}
"""The seed is no double: 2^53 + 1."""
BINDINGS = http_bindings()
SERVICE = "sluicegate.v1.GenerationService"
PAGE, STRANGER = "https://app.example", "https://stranger.example"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason of a refusal, from its ErrorInfo."""
        (info,) = [each for each in self.json["details"] if each["@type"].endswith("google.rpc.ErrorInfo")]
        assert info["domain"] == "sluicegate"
        return str(info["reason"])


@pytest.fixture(scope="module")
def proxy(server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    with envoy(tmp_path_factory.mktemp("envoy"), configuration([server.address])) as running:
        running.wait_for_healthy([server.address])
        yield running


@pytest.fixture(scope="module")
def token(server: RealServer) -> str:
    return server.token()


def curl(
    proxy: Envoy, path: str, *flags: str, token: str | None = None, body: object = None, method: str | None = None
) -> Answer:
    """What curl gets. `body` is sent as JSON; text and octets as they are."""
    sent = body if isinstance(body, str | None) else json.dumps(body)
    arguments = ["--silent", "--show-error", "--include", "--no-buffer", "--max-time", "30", "--path-as-is", *flags]
    arguments += ["--header", bearer(token)] if token else []
    arguments += ["--header", "content-type: application/json", "--data-binary", "@-"] if sent is not None else []
    arguments += ["--request", method] if method else []
    done = run("curl", *arguments, f"http://{proxy.address}{path}", stdin=sent or "")
    assert done.returncode == 0, done.stderr
    *_, head, text = done.stdout.replace("\r\n", "\n").split("\n\n", done.stdout.count("HTTP/"))
    first, *lines = head.splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, text)


def test_a_stream_comes_line_by_line(proxy: Envoy, token: str) -> None:
    answer = curl(proxy, f"{SMALL}:streamGenerate", token=token, body=ASKED)

    events = [json.loads(line) for line in answer.body.splitlines()]
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert events[0]["started"]["seed"] == ASKED["config"]["seed"]  # type: ignore[index]
    assert "".join(event["delta"].get("text", "") for event in events[1:-1])
    assert events[-1]["finished"]["finishReason"] == "FINISH_REASON_MAX_OUTPUT_TOKENS"
    assert events[-1]["usage"] == {"promptTokens": 2, "outputTokens": 6}


def test_a_whole_generation_is_the_same_text(proxy: Envoy, token: str) -> None:
    whole = curl(proxy, f"{SMALL}:generate", token=token, body=ASKED)
    streamed = curl(proxy, f"{SMALL}:streamGenerate", token=token, body=ASKED)

    (candidate,) = whole.json["candidates"]
    deltas = [event["delta"].get("text", "") for event in json_values(streamed.body) if "delta" in event]
    assert candidate["text"] == "".join(deltas)


@pytest.mark.parametrize("method", BINDINGS)
def test_every_path_leads_to_the_same_question_for_a_token(proxy: Envoy, method: str) -> None:
    verb, path, body = BINDINGS[method]

    answer = curl(proxy, path.format(model="demo-xs", id="any"), body={} if body else None, method=verb)

    assert (answer.status, answer.reason) == (401, "TOKEN_MISSING")


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/v1/models", None, "models"),
        (SMALL, None, "model"),
        (f"{SMALL}/quotas?pageSize=1", None, "quotas"),
        (f"{SMALL}/quotas?page_size=1", None, "quotas"),
        ("/v1/callerIdentity", None, "clientId"),
        (f"{SMALL}:checkAccess", {"action": "generate"}, "allowed"),
        (f"{SMALL}:score", {"text": "It was"}, "totalLogProbability"),
        (f"{SMALL}:tokenize", {"text": "It was"}, "tokens"),
        (f"{SMALL}:detokenize", {"tokenIds": [5, 6]}, "text"),
    ],
)
def test_a_method_answers_at_its_path(proxy: Envoy, token: str, path: str, body: object, key: str) -> None:
    answer = curl(proxy, path, token=token, body=body)

    assert answer.status == 200
    assert key in answer.json


def test_a_finding_is_filed_and_read_back(proxy: Envoy, server: RealServer) -> None:
    token = server.token(scopes=("findings:write", "findings:read"))
    report = {"kind": "FINDING_KIND_OTHER", "severity": "FINDING_SEVERITY_LOW", "model": "demo-xs", "summary": "Odd."}

    filed = curl(proxy, "/v1/findings", token=token, body=report).json["finding"]

    assert curl(proxy, f"/v1/findings/{filed['id']}", token=token).json["finding"] == filed
    assert filed in curl(proxy, "/v1/findings", token=token).json["findings"]


def test_models_are_watched_until_the_caller_leaves(proxy: Envoy, token: str) -> None:
    watched = run(
        *("curl", "--silent", "--no-buffer", "--max-time", "2", "--header", bearer(token)),
        f"http://{proxy.address}/v1/models:watch",
    )

    assert [model["id"] for model in json_values(watched.stdout)[0]["models"]] == ["demo-xs"]


@pytest.mark.parametrize(
    ("scope", "asked", "reason"),
    [
        ("score:demo-xs", "demo-xs:streamGenerate", "SCOPE_MISSING"),
        ("generate:demo-xs", "demo-xs:score", "SCOPE_MISSING"),
        ("generate:demo-s", "demo-s:streamGenerate", "MODEL_NOT_RELEASED"),
        ("generate:no-such", "no-such:generate", "MODEL_NOT_RELEASED"),
    ],
)
def test_a_refusal_is_that_of_grpc_with_its_reason(
    proxy: Envoy, server: RealServer, scope: str, asked: str, reason: str
) -> None:
    token = server.token(scopes=(scope,))

    answer = curl(proxy, f"/v1/models/{asked}", token=token, body={"text": "It was"})

    assert (answer.status, answer.reason) == (403, reason)
    assert answer.json["message"]
    assert "@type" in answer.json["details"][-1]


def test_fields_that_break_their_rules_are_named(proxy: Envoy, token: str) -> None:
    answer = curl(proxy, f"{SMALL}:generate", token=token, body={"text": "It was", "config": {"topP": 2}})

    (bad,) = [each for each in answer.json["details"] if each["@type"].endswith("BadRequest")]
    assert (answer.status, answer.reason) == (400, "REQUEST_INVALID")
    assert [violation["field"] for violation in bad["fieldViolations"]] == ["config.top_p"]


def test_two_tokens_are_no_token(proxy: Envoy, token: str) -> None:
    answer = curl(proxy, "/v1/callerIdentity", "--header", bearer(token), token=token)

    assert (answer.status, answer.reason) == (401, "TOKEN_AMBIGUOUS")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/v1/nothing", None, 404, id="no such path"),
        pytest.param("/", None, 404, id="no path"),
        pytest.param("/v1/models/demo%2Fxs", None, 400, id="a slash that is escaped"),
        pytest.param("/v1/models/..%2Fdemo-xs", None, 400, id="a step up that is escaped"),
        pytest.param(f"{SMALL}?modle=demo-s", None, 400, id="a query that no field is for"),
        pytest.param(f"{SMALL}:generate", {"model": "demo-s", "text": "It was"}, 400, id="two models"),
        pytest.param(f"{SMALL}:generate?text=It+was", {"text": "It was"}, 400, id="body and query"),
        pytest.param(f"{SMALL}:generate", '{"text": ', 400, id="half of JSON"),
        pytest.param(f"{SMALL}:generate", "\x1f\x8b\x08", 400, id="compressed"),
        pytest.param(f"{SMALL}:generate", {"text": "a" * (65 << 10)}, 400, id="a text that the server refuses"),
        pytest.param(f"{SMALL}:generate", {"text": "a" * (2 << 20)}, 413, id="more than the server takes"),
        pytest.param("/sluicegate.v1.GenerationService/Generate", {"model": "demo-xs"}, 404, id="by the gRPC name"),
        pytest.param("/sluicegate.v1.WithdrawalService/ListWithdrawals", {}, 404, id="operators'"),
        pytest.param("/sluicegate.v1.ReleaseService/GetReleasePlan", {}, 404, id="operators', too"),
        pytest.param("/grpc.health.v1.Health/Check", {}, 404, id="health"),
        pytest.param("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", {}, 404, id="reflection"),
    ],
)
def test_what_is_no_request_goes_no_further(proxy: Envoy, token: str, path: str, body: object, status: int) -> None:
    assert curl(proxy, path, token=token, body=body).status == status


@pytest.mark.parametrize("header", ["x-http-method-override: POST", "x-http-method: POST", "x-method-override: POST"])
def test_a_method_cannot_be_put_in_the_place_of_another(proxy: Envoy, token: str, header: str) -> None:
    answer = curl(proxy, f"{SMALL}:generate", "--header", header, token=token, body=ASKED, method="GET")

    assert answer.status == 404


def test_a_connection_is_not_upgraded_past_the_filters(proxy: Envoy, token: str) -> None:
    answer = curl(proxy, "/v1/callerIdentity", "--http2", token=token)

    assert answer.status == 200
    assert proxy.statistic("http.callers.downstream_cx_upgrades_total") == 0


def test_a_body_that_is_too_large_is_not_held(proxy: Envoy, server: RealServer) -> None:
    """It would be, before anybody has looked at the token; nor does the server see it."""
    before = server.metric("grpc_server_started_total", grpc_service=SERVICE)

    answer = curl(proxy, f"{SMALL}:generate", body="[" * (64 << 20))

    assert answer.status == 413
    assert proxy.resident_bytes() < 160 << 20
    assert server.metric("grpc_server_started_total", grpc_service=SERVICE) == before


def test_an_answer_may_be_large(proxy: Envoy, token: str) -> None:
    config = {"maxOutputTokens": 500, "candidateCount": 8, "responseLogprobs": True, "logprobs": 20, "ignoreEos": True}

    answer = curl(proxy, f"{SMALL}:generate", token=token, body={"text": "It was", "config": config})

    assert answer.status == 200
    assert len(answer.body) > 1 << 20
    assert len(answer.json["candidates"]) == 8


def test_a_deadline_drives_the_work_here_too(proxy: Envoy, token: str) -> None:
    answer = curl(proxy, f"{SMALL}:generate", "--header", "grpc-timeout: 1m", token=token, body=ASKED)

    assert answer.status == 504


def test_a_stream_that_is_cut_has_no_end_and_so_can_be_told(tmp_path: Path) -> None:
    """HTTP has no place for a status after the first line that browsers can read."""
    lost = Refusal(code=grpc.StatusCode.UNAVAILABLE, reason="ENGINE_LOST", usage=(3, 1))
    with serving() as replica:
        replica.will("StreamGenerate", (started(), delta("It"), lost))
        with envoy(tmp_path, configuration([replica.target])) as proxy:
            proxy.wait_for_healthy([replica.target])

            answer = curl(proxy, "/v1/models/gpt2-124m:streamGenerate", body={"text": "It was"})

    events = json_values(answer.body)
    assert answer.status == 200
    assert [next(iter(event.keys() & {"started", "delta", "finished"})) for event in events] == ["started", "delta"]


@pytest.mark.parametrize("path", [f"{SMALL}:streamGenerate", "/sluicegate.v1.GenerationService/StreamGenerate"])
def test_only_pages_of_named_origins_are_let_in(proxy: Envoy, path: str) -> None:
    asked = (
        "--header",
        "access-control-request-method: POST",
        "--header",
        "access-control-request-headers: authorization",
    )

    ours = curl(proxy, path, "--header", f"origin: {PAGE}", *asked, method="OPTIONS")
    theirs = curl(proxy, path, "--header", f"origin: {STRANGER}", *asked, method="OPTIONS")

    assert ours.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in ours.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in theirs.headers
    assert "access-control-allow-credentials" not in ours.headers.keys() | theirs.headers.keys()


def test_no_page_is_let_in_to_what_operators_do(proxy: Envoy) -> None:
    asked = ("--header", f"origin: {PAGE}", "--header", "access-control-request-method: POST")

    answer = curl(proxy, "/sluicegate.v1.WithdrawalService/ListWithdrawals", *asked, method="OPTIONS")

    assert "access-control-allow-origin" not in answer.headers


def test_neither_token_nor_query_nor_text_is_in_the_log(proxy: Envoy, token: str) -> None:
    curl(proxy, f"{SMALL}/quotas?pageSize=77", token=token)
    curl(proxy, f"{SMALL}:generate?text=querulous", token=token, body=ASKED)

    log = proxy.log_file.read_text()

    assert proxy.access()
    assert not [word for word in (token, "pageSize", "querulous", ASKED["text"]) if str(word) in log]
