from __future__ import annotations

import json

import grpc
import pytest
from client_server import FakeServer, Refusal, delta, finished, started
from client_terminal import sluicegate
from typer.testing import Result

from sluicegate.v1.generation_pb2 import (
    FINISH_REASON_QUOTA,
    PERSONAL_DATA_TYPE_CARD,
    PERSONAL_DATA_TYPE_EMAIL,
    Token,
)
from sluicegate.v1.generation_service_pb2 import StreamGenerateRequest

WITHDRAWN = Refusal(
    code=grpc.StatusCode.PERMISSION_DENIED,
    reason="MODEL_WITHDRAWN",
    text="the operator closed this model",
    usage=(3, 5),
)


def generate(server: FakeServer, *arguments: str, text: str | bytes | None = None) -> Result:
    return sluicegate("generate", "--target", server.target, *arguments, text=text)


def test_the_text_is_written_and_ends_its_line(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("upon "), delta("a time"), finished()])

    result = generate(server, "gpt2-124m", "Once")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "upon a time\n", "")


def test_text_that_ends_its_line_itself_gets_no_second_newline(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("upon\n"), finished()])

    assert generate(server, "m", "Once").stdout == "upon\n"


def test_options_reach_the_server(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), finished()])

    generate(
        server,
        *("m", "Once", "--temperature", "0", "-n", "5", "--stop", "a", "--stop", "b", "--logit-bias", "7=-1.5"),
        *("--purpose", "evaluation", "--client-request-id", "mine", "--priority", "-3"),
    )

    request = server.calls[0].asked(StreamGenerateRequest)
    assert (request.model, request.text, request.purpose, request.client_request_id) == (
        "m",
        "Once",
        "evaluation",
        "mine",
    )
    assert request.priority == -3
    assert request.config.HasField("temperature")
    assert (request.config.max_output_tokens, list(request.config.stop_sequences)) == (5, ["a", "b"])
    assert dict(request.config.logit_bias) == {7: -1.5}
    assert not request.config.HasField("top_k")


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_without_a_prompt_standard_input_is_read(server: FakeServer, arguments: tuple[str, ...]) -> None:
    server.will("StreamGenerate", [started(), finished()])

    generate(server, "m", *arguments, text="Once\nupon\n")

    assert server.calls[0].asked(StreamGenerateRequest).text == "Once\nupon"


def test_a_prompt_that_is_no_text_is_wrong_usage_and_is_not_sent(server: FakeServer) -> None:
    result = generate(server, "m", text=b"\xff\xfe")

    assert result.exit_code == 2
    assert "not UTF-8" in result.stderr
    assert server.calls == []


def test_candidates_are_printed_one_after_the_other_however_they_are_mixed(server: FakeServer) -> None:
    events = [started(), delta("b1", 1), delta("a1", 0), delta("b2", 1), finished(1), delta("a2", 0), finished(0)]
    server.will("StreamGenerate", events)

    result = generate(server, "m", "x", "--candidates", "3")

    assert result.stdout == "--- candidate 1 of 3 ---\na1a2\n--- candidate 2 of 3 ---\nb1b2\n"


def test_a_candidate_without_text_still_has_its_header(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), finished(0), delta("b", 1), finished(1)])

    result = generate(server, "m", "x", "--candidates", "2")

    assert result.stdout == "--- candidate 1 of 2 ---\n--- candidate 2 of 2 ---\nb\n"


def test_an_error_in_the_middle_keeps_all_text_and_says_what_was_counted(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("b", 1), delta("a", 0), WITHDRAWN])

    result = generate(server, "m", "x", "--candidates", "2")

    assert result.exit_code == 4
    assert result.stdout == "--- candidate 1 of 2 ---\na\n--- candidate 2 of 2 ---\nb\n"
    assert result.stderr == (
        "sluicegate: the operator closed this model (MODEL_WITHDRAWN)\n"
        "  use another model, or ask the server's operator; 5 output tokens were counted; request 0192-request\n"
    )


def test_an_end_that_the_caller_did_not_ask_for_is_told(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("a"), finished(reason=FINISH_REASON_QUOTA)])

    result = generate(server, "m", "x")

    assert (result.exit_code, result.stderr) == (0, "candidate 1 ended early: QUOTA\n")


def test_what_was_taken_out_is_told(server: FakeServer) -> None:
    end = finished()
    end.finished.redactions.add(type=PERSONAL_DATA_TYPE_EMAIL, count=2)
    end.finished.redactions.add(type=PERSONAL_DATA_TYPE_CARD, count=1)
    server.will("StreamGenerate", [started(), delta("[EMAIL]"), end], [started(), delta("[EMAIL]"), end])

    result = generate(server, "m", "x")
    lines = generate(server, "m", "x", "--json").stdout.splitlines()

    assert (result.stdout, result.stderr) == (
        "[EMAIL]\n",
        "candidate 1 had personal data taken out: 2 EMAIL, 1 CARD\n",
    )
    assert json.loads(lines[2])["redactions"] == {"EMAIL": 2, "CARD": 1}


def test_json_has_a_line_for_each_event_and_one_for_the_end(server: FakeServer) -> None:
    token = Token(id=7, bytes=b"\xc3", log_probability=-0.5)
    server.will("StreamGenerate", [started(), delta("é", tokens=[token]), finished()])

    result = generate(server, "m", "x", "--json", "--logprobs", "1", "--include-tokens")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["started", "delta", "finished", "end"]
    assert lines[0]["seed"] == 7
    assert lines[1] == {
        "event": "delta",
        "candidate": 0,
        "text": "é",
        "tokens": [{"id": 7, "bytes_base64": "ww==", "log_probability": -0.5, "top": []}],
    }
    assert lines[3]["usage"] == {"prompt_tokens": 3, "output_tokens": 2}
    assert server.calls[0].asked(StreamGenerateRequest).stream_options.include_tokens


def test_json_ends_with_the_error_where_there_is_one(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("a"), WITHDRAWN])

    result = generate(server, "m", "x", "--json")

    last = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == 4
    assert (last["event"], last["code"], last["reason"]) == ("error", "PERMISSION_DENIED", "MODEL_WITHDRAWN")
    assert last["usage"] == {"prompt_tokens": 3, "output_tokens": 5}


@pytest.mark.parametrize("option", ["--include-tokens", "--response-logprobs"])
def test_what_only_json_can_show_is_refused_without_it(server: FakeServer, option: str) -> None:
    result = generate(server, "m", "x", option)

    assert result.exit_code == 2
    assert "--json" in result.stderr


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED", 3),
        (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING", 4),
        (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID", 1),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "DAILY_TOKEN_QUOTA", 5),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 7),
        (grpc.StatusCode.INTERNAL, "INTERNAL", 8),
    ],
)
def test_each_refusal_has_its_exit_code(server: FakeServer, code: grpc.StatusCode, reason: str, exit_code: int) -> None:
    server.will("StreamGenerate", [Refusal(code=code, reason=reason)])

    result = generate(server, "m", "x")

    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert f"({reason})" in result.stderr


def test_a_server_that_is_not_there_is_unavailable() -> None:
    result = sluicegate("generate", "m", "x", "--target", "127.0.0.1:1", "--timeout", "5")

    assert result.exit_code == 6
    assert "check that the server runs at this target" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("x", "-n", "99999999999"), "config.max_output_tokens"),
        (("x", "--seed", "-1"), "config.seed"),
        (("x", "--seed", str(2**64)), "config.seed"),
        (("\udcff",), "text"),
    ],
)
def test_what_no_request_can_carry_is_named_by_its_field(
    server: FakeServer, arguments: tuple[str, ...], field: str
) -> None:
    result = sluicegate("generate", "m", *arguments, "--target", server.target)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"sluicegate: the request cannot be put into a message; {field}: must be ")
    assert server.calls == []
