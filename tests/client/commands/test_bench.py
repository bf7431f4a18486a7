"""`sluicegate bench` against a scripted server. Times are those of the machine, so none is looked at."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import grpc
import pytest
from client_server import FakeServer, Hold, Refusal, delta, finished, started
from client_terminal import COMMAND, sluicegate
from typer.testing import Result

from sluicegate.v1.generation_service_pb2 import StreamGenerateRequest
from sluicegate.v1.model_service_pb2 import ListModelsResponse, Model

MODELS = ListModelsResponse(
    models=[
        Model(id=name, parameters=1, context_length=64, vocabulary_size=50, weights_sha256="ab" * 32, dtype="bfloat16")
        for name in ("small", "large")
    ]
)
ANSWER = (
    started(model="small", policy_revision="r1", weights_sha256="ab" * 32),
    delta("a", output_tokens=1),
    delta("b", output_tokens=2),
    finished(output_tokens=2),
)
LIMITED = Refusal(code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="REQUEST_RATE_LIMIT", retry_after=0)
OVERLOADED = Refusal(code=grpc.StatusCode.UNAVAILABLE, reason="SERVER_OVERLOADED", retry_after=0, pushback_ms="1")
SHORT = ("--prompt-tokens", "2-4", "--output-tokens", "2", "--requests", "6")


@pytest.fixture
def ready(server: FakeServer) -> FakeServer:
    server.will("ListModels", [MODELS])
    server.will("StreamGenerate", ANSWER)
    return server


def bench(server: FakeServer, *arguments: str | Path) -> Result:
    return sluicegate("bench", "--target", server.target, *arguments)


def measured(server: FakeServer, *arguments: str | Path) -> dict[str, Any]:
    result = bench(server, "--json", *arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def generations(server: FakeServer) -> list[StreamGenerateRequest]:
    return [call.asked(StreamGenerateRequest) for call in server.calls if call.method == "StreamGenerate"]


def test_every_request_is_as_it_was_asked_for_and_is_counted(ready: FakeServer) -> None:
    found = measured(ready, "--model", "small", *SHORT, "--purpose", "load", "--priority", "-1")

    sent = generations(ready)
    assert len(sent) == 6
    assert {len(each.token_ids.ids) for each in sent} <= {2, 3, 4}
    assert all(token < 49 for each in sent for token in each.token_ids.ids)
    assert {(each.config.max_output_tokens, each.config.ignore_eos) for each in sent} == {(2, True)}
    assert {(each.purpose, each.priority) for each in sent} == {("load", -1)}
    total = found["results"]["total"]
    assert (total["requests"], total["answered"], total["output_tokens"], total["refused"]) == (6, 6, 12, {})
    assert (total["first_token_seconds"]["count"], total["inter_token_seconds"]["count"]) == (6, 6)


def test_the_object_says_what_was_measured(ready: FakeServer) -> None:
    found = measured(ready, "--model", "small", *SHORT, "--seed", "7")

    assert (found["target"], found["interrupted"], found["load"]["seed"]) == (ready.target, False, 7)
    assert found["models"] == [{"id": "small", "share": 1.0, "weights_sha256": "ab" * 32, "dtype": "bfloat16"}]
    (served,) = found["results"]["served_under"]
    assert (served["policy_revision"], served["weights_sha256"], served["stage"]) == ("r1", "ab" * 32, "s1")


def test_models_and_callers_take_part_by_their_shares(ready: FakeServer, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"token-{name}")
    tokens = ("--token-file", tmp_path / "one", "--token-file", tmp_path / "two")

    found = measured(ready, "--model", "small=3", "--model", "large=1", *SHORT[:4], "--requests", "60", *tokens)

    calls = [call for call in ready.calls if call.method == "StreamGenerate"]
    models = Counter(call.asked(StreamGenerateRequest).model for call in calls)
    callers = Counter(call.metadata["authorization"] for call in calls)
    assert models["small"] > models["large"] > 0
    assert set(callers) == {"Bearer token-one", "Bearer token-two"}
    rows = found["results"]
    assert {name: row["requests"] for name, row in rows["by_model"].items()} == models
    assert {row["requests"] for row in rows["by_caller"].values()} == set(callers.values())
    assert found["callers"] == [str(tmp_path / "one"), str(tmp_path / "two")]


def test_refusals_are_counted_and_neither_waited_for_nor_retried(ready: FakeServer) -> None:
    ready.will("StreamGenerate", [LIMITED], [OVERLOADED], ANSWER)

    found = measured(ready, "--model", "small", *SHORT, "--concurrency", "1")

    assert found["results"]["total"]["refused"] == {"REQUEST_RATE_LIMIT": 1, "SERVER_OVERLOADED": 1}
    assert found["results"]["total"]["answered"] == 4
    assert len(generations(ready)) == 6


def test_a_quota_is_waited_for_where_that_is_asked_for(ready: FakeServer) -> None:
    ready.will("StreamGenerate", [LIMITED], ANSWER)

    found = measured(ready, "--model", "small", *SHORT, "--max-wait", "1")

    assert (found["results"]["total"]["refused"], found["results"]["total"]["answered"]) == ({}, 6)
    assert len(generations(ready)) == 7


def test_cancelled_requests_are_ended_on_the_way(ready: FakeServer) -> None:
    ready.will("StreamGenerate", [started(), delta("a", output_tokens=2), Hold()])

    found = measured(ready, "--model", "small", *SHORT, "--cancel-share", "1")

    assert (found["results"]["total"]["cancelled"], found["results"]["total"]["answered"]) == (6, 0)
    assert all(call.wait_for_end() for call in ready.calls)


def test_an_open_loop_sends_as_many_as_were_to_arrive(ready: FakeServer) -> None:
    found = measured(ready, "--model", "small", *SHORT, "--mode", "open", "--rate", "500")

    assert found["results"]["total"]["answered"] == 6
    assert found["results"]["sent_late_seconds"]["count"] == 6


def test_people_get_tables_and_a_picture(ready: FakeServer, tmp_path: Path) -> None:
    ready.will("StreamGenerate", [LIMITED], ANSWER)
    picture = tmp_path / "bench.svg"

    result = bench(ready, "--model", "small", "--model", "large", *SHORT, "--plot", picture)

    assert result.exit_code == 0
    assert all(text in result.stdout for text in ("first token ms", "all", "large", "output tokens/s", "requests/s"))
    assert all(text in result.stdout for text in ("REQUEST_RATE_LIMIT", "abababababab", "bfloat16", "r1"))
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")


def test_a_run_in_which_nothing_was_answered_is_no_success(ready: FakeServer, tmp_path: Path) -> None:
    ready.will("StreamGenerate", [OVERLOADED])

    result = bench(ready, "--model", "small", *SHORT, "--plot", tmp_path / "bench.svg")

    assert result.exit_code == 1
    assert "no request was answered" in result.stderr
    assert "there is nothing to draw" in result.stderr
    assert "SERVER_OVERLOADED" in result.stdout


def test_ctrl_c_ends_the_run_with_what_was_measured(ready: FakeServer) -> None:
    ready.will("StreamGenerate", ANSWER, [started(), Hold()])
    arguments = ("--target", ready.target, "--model", "small", "--json", "--concurrency", "1", "--duration", "99")
    command = [*COMMAND, "bench", *arguments, *SHORT[:4]]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        ready.wait_for_calls(3)
        child.send_signal(signal.SIGINT)
        shown, said = child.communicate(timeout=60)

    assert (child.returncode, said) == (130, b"")
    found = json.loads(shown)
    assert found["interrupted"] is True
    assert (found["results"]["total"]["answered"], found["results"]["total"]["unfinished"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--model", "small=0"), "share above 0"),
        (("--model", "small=x"), "share above 0"),
        (("--model", "small=inf"), "share above 0"),
        (("--model", "small", "--model", "small"), "there twice"),
        (("--model", "small", "--mode", "open"), "belong together"),
        (("--model", "small", "--rate", "1"), "belong together"),
        (("--model", "small", "--mode", "open", "--rate", "0"), "--rate is 0"),
        (("--model", "small", "--duration", "inf"), "--duration is inf"),
        (("--model", "small", "--warm-up", "inf"), "--warm-up has no end"),
        (("--model", "small", "--prompt-tokens", "0"), "--prompt-tokens"),
        (("--model", "small", "--prompt-tokens", "5-4"), "--prompt-tokens"),
        (("--model", "small", "--output-tokens", "4097"), "--output-tokens"),
        (("--model", "small", "--prompt-tokens", "60", "--output-tokens", "2-5"), "has room for 64"),
        (("--model", "other"), "no caller may know of a model 'other'"),
        (("--model", "small", "--plot", "/nowhere/at/all.svg"), "cannot be written"),
        (("--model", "small", "--token-file", "a", "--token-file", "a"), "there twice"),
    ],
)
def test_what_makes_no_load_is_refused_before_anything_is_sent(
    ready: FakeServer, arguments: tuple[str, ...], text: str
) -> None:
    result = bench(ready, *arguments)

    assert result.exit_code == 2
    assert text in result.stderr
    assert generations(ready) == []


def test_a_model_that_is_not_loaded_cannot_be_measured(server: FakeServer) -> None:
    server.will("ListModels", [ListModelsResponse(models=[Model(id="small")])])

    result = bench(server, "--model", "small")

    assert result.exit_code == 8
    assert "not loaded now" in result.stderr


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED", 3),
        (grpc.StatusCode.UNAVAILABLE, "SERVER_OVERLOADED", 6),
    ],
)
def test_a_server_that_takes_no_calls_ends_the_run_before_it_begins(
    server: FakeServer, code: grpc.StatusCode, reason: str, exit_code: int
) -> None:
    server.will("ListModels", [Refusal(code=code, reason=reason)])

    result = bench(server, "--model", "small")

    assert result.exit_code == exit_code
    assert reason in result.stderr
