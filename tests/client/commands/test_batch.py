from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from client_server import FakeServer, Hold, Refusal, generated
from client_terminal import sluicegate
from typer.testing import Result

from sluicegate.v1.generation_service_pb2 import GenerateRequest

CODE = grpc.StatusCode
INVALID = Refusal(code=CODE.INVALID_ARGUMENT, reason="CONTEXT_LENGTH_EXCEEDED", text="does not fit")


class Files:
    """A batch of three items, and its results."""

    def __init__(self, folder: Path) -> None:
        self.input = folder / "prompts.jsonl"
        self.output = folder / "results.jsonl"
        self.input.write_text("".join(json.dumps({"id": name, "prompt": f"prompt {name}"}) + "\n" for name in "abc"))

    def results(self) -> dict[str, Any]:
        lines = [json.loads(line) for line in self.output.read_text().splitlines()]
        return {line["id"]: line for line in lines}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def batch(server: FakeServer, files: Files, *arguments: str) -> Result:
    paths = ("--input", str(files.input), "--output", str(files.output))
    return sluicegate("batch", "m", *paths, "--target", server.target, "--concurrency", "1", *arguments)


def prompts(server: FakeServer) -> list[str]:
    return [call.asked(GenerateRequest).text for call in server.calls]


def test_every_item_gets_a_line(server: FakeServer, files: Files) -> None:
    server.will("Generate", [generated("one", "two")])

    result = batch(server, files, "--concurrency", "8", "--purpose", "p", "-n", "4", "--priority", "-2")

    assert result.exit_code == 0
    assert result.stderr == "3 items, 0 failed, 0 were there already\n"
    assert sorted(prompts(server)) == ["prompt a", "prompt b", "prompt c"]
    line = files.results()["b"]
    assert (line["text"], [each["text"] for each in line["candidates"]]) == ("one", ["one", "two"])
    assert (line["started"]["seed"], line["usage"]) == (7, {"prompt_tokens": 3, "output_tokens": 4})
    request = server.calls[0].asked(GenerateRequest)
    assert (request.purpose, request.config.max_output_tokens, request.priority) == ("p", 4, -2)


@pytest.mark.parametrize(
    "refusal",
    [
        INVALID,
        Refusal(code=CODE.FAILED_PRECONDITION, reason="OUTPUT_TERMS_CONFLICT"),
        Refusal(code=CODE.DEADLINE_EXCEEDED, reason="DEADLINE_EXCEEDED"),
        Refusal(code=CODE.INTERNAL, reason="INTERNAL"),
    ],
)
def test_an_item_that_is_refused_for_itself_gets_an_error_and_the_others_go_on(
    server: FakeServer, files: Files, refusal: Refusal
) -> None:
    server.will("Generate", [generated("one")], [refusal], [generated("three")])

    result = batch(server, files)

    assert result.exit_code == 1
    error = files.results()["b"]["error"]
    assert (error["code"], error["reason"], error["message"]) == (refusal.code.name, refusal.reason, refusal.text)
    assert [name for name, line in files.results().items() if "error" not in line] == ["a", "c"]


@pytest.mark.parametrize(
    ("refusal", "exit_code"),
    [
        (Refusal(code=CODE.UNAUTHENTICATED, reason="TOKEN_EXPIRED"), 3),
        (Refusal(code=CODE.PERMISSION_DENIED, reason="SCOPE_MISSING"), 4),
        (Refusal(code=CODE.PERMISSION_DENIED, reason="PURPOSE_NOT_PERMITTED"), 4),
        (Refusal(code=CODE.RESOURCE_EXHAUSTED, reason="DAILY_TOKEN_QUOTA"), 5),
        (Refusal(code=CODE.RESOURCE_EXHAUSTED, reason="REQUEST_RATE_LIMIT", retry_after=121), 5),
        (Refusal(code=CODE.UNAVAILABLE, reason="MODEL_NOT_READY", pushback_ms="-1"), 6),
        (Refusal(code=CODE.UNIMPLEMENTED), 8),
        (Refusal(code=CODE.UNKNOWN), 8),
    ],
)
def test_what_would_hit_them_all_stops_the_run_and_a_second_one_goes_on(
    server: FakeServer, files: Files, refusal: Refusal, exit_code: int
) -> None:
    server.will("Generate", [generated("one")], [refusal], [generated("again")])

    first = batch(server, files)
    after_first = list(files.results())
    second = batch(server, files)

    assert (first.exit_code, after_first) == (exit_code, ["a"])
    assert f"1 of 3 items are in {files.output}; the same command goes on from there" in first.stderr
    assert (second.exit_code, list(files.results())) == (0, ["a", "b", "c"])
    assert prompts(server) == ["prompt a", "prompt b", "prompt b", "prompt c"]


def test_a_purpose_of_the_item_s_own_is_refused_for_itself(server: FakeServer, files: Files) -> None:
    files.input.write_text('{"prompt": "a", "purpose": "mischief"}\n{"prompt": "b"}\n')
    server.will("Generate", [Refusal(code=CODE.PERMISSION_DENIED, reason="PURPOSE_NOT_PERMITTED")], [generated("b")])

    result = batch(server, files, "--purpose", "good")

    assert result.exit_code == 1
    assert [call.asked(GenerateRequest).purpose for call in server.calls] == ["mischief", "good"]


def test_a_quota_that_asks_for_a_short_wait_is_waited_for(server: FakeServer, files: Files) -> None:
    limit = Refusal(code=CODE.RESOURCE_EXHAUSTED, reason="REQUEST_RATE_LIMIT", retry_after=0)
    server.will("Generate", [limit], [limit], [generated("text")])

    result = batch(server, files)

    assert result.exit_code == 0
    assert prompts(server)[:3] == ["prompt a"] * 3


def test_what_failed_is_kept_unless_it_is_to_be_repeated(server: FakeServer, files: Files) -> None:
    server.will("Generate", [generated("one")], [INVALID], [generated("three")], [generated("two")])

    codes = [batch(server, files).exit_code, batch(server, files).exit_code]
    repeated = batch(server, files, "--retry-failed")

    assert (codes, repeated.exit_code) == ([1, 1], 0)
    assert files.results()["b"]["text"] == "two"
    assert len(server.calls) == 4


def test_nothing_is_sent_while_a_line_is_bad(server: FakeServer, files: Files) -> None:
    with files.input.open("a") as file:
        file.write("bad\n")

    result = batch(server, files)

    assert result.exit_code == 2
    assert f"{files.input}:4: not JSON" in result.stderr
    assert (server.calls, files.output.exists()) == ([], False)


def test_the_input_is_never_written_to(server: FakeServer, files: Files) -> None:
    before = files.input.read_text()
    files.output.symlink_to(files.input)

    result = batch(server, files)

    assert (result.exit_code, files.input.read_text()) == (2, before)


def test_an_empty_input_is_done_at_once(server: FakeServer, files: Files) -> None:
    files.input.write_text("")

    result = batch(server, files)

    assert (result.exit_code, server.calls, files.output.read_text()) == (0, [], "")


def test_calls_in_flight_are_ended_when_the_run_stops(server: FakeServer, files: Files) -> None:
    server.will("Generate", [Hold()], [Hold()], [Refusal(code=CODE.UNAUTHENTICATED, reason="TOKEN_EXPIRED")])

    result = batch(server, files, "--concurrency", "3")

    assert result.exit_code == 3
    assert all(call.wait_for_end() for call in server.calls)
