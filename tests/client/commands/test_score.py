from __future__ import annotations

import json
import math

import pytest
from client_server import FakeServer, started_message
from client_terminal import sluicegate

from sluicegate.client.commands.score import perplexity_of
from sluicegate.client.results import Score, Started, Token, Usage
from sluicegate.v1 import generation_pb2
from sluicegate.v1.generation_service_pb2 import ScoreRequest, ScoreResponse

STARTED = Started("r", "", "m", "", "s", "", None, 1, 0, 0, 0.0, 0)


def response(*log_probabilities: float) -> ScoreResponse:
    return ScoreResponse(
        started=started_message(),
        tokens=[
            generation_pb2.Token(
                id=number,
                bytes=b" Once\n",
                log_probability=value,
                top=[generation_pb2.TopToken(id=9, bytes=b"\xff[b]", log_probability=-0.25)],
            )
            for number, value in enumerate(log_probabilities)
        ],
        total_log_probability=sum(log_probabilities),
    )


def scored(total: float, tokens: int) -> Score:
    return Score(STARTED, (Token(1, b"a", total, ()),) * tokens, total, Usage(1, 0))


def test_tokens_are_shown_with_their_sum_and_the_perplexity(server: FakeServer) -> None:
    server.will("Score", [response(-1.0, -3.0)])

    result = sluicegate("score", "m", "text", "--target", server.target)

    rows = [line.split("  ") for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [cell.strip() for cell in rows[1] if cell] == ["' Once\\n'", "0", "-1.0000"]
    assert result.stdout.endswith("\ntotal log-probability -4.0000, perplexity 7.389\n")


def test_alternatives_are_shown_when_asked_for(server: FakeServer) -> None:
    server.will("Score", [response(-1.0)])

    result = sluicegate("score", "m", "text", "--target", server.target, "--logprobs", "1", "--priority", "2")

    assert "'\\\\xff[b]' -0.25" in result.stdout
    request = server.calls[0].asked(ScoreRequest)
    assert (request.logprobs, request.priority) == (1, 2)


def test_json_has_everything(server: FakeServer) -> None:
    server.will("Score", [response(-1.0, -3.0)])

    result = sluicegate("score", "m", "--json", "--target", server.target, text="text\n")

    document = json.loads(result.stdout)
    assert (document["total_log_probability"], document["perplexity"]) == (-4.0, pytest.approx(math.exp(2)))
    assert document["tokens"][0]["bytes_base64"] == "IE9uY2UK"
    assert server.calls[0].asked(ScoreRequest).text == "text"


def test_perplexity_is_the_inverse_geometric_mean_of_the_probabilities() -> None:
    assert perplexity_of(scored(math.log(0.5) + math.log(0.125), 2)) == pytest.approx(4.0)


def test_a_perplexity_that_no_float_holds_is_infinite() -> None:
    assert perplexity_of(scored(-1e6, 1)) == math.inf


def test_no_tokens_have_no_perplexity(server: FakeServer) -> None:
    server.will("Score", [response()])

    result = sluicegate("score", "m", "text", "--json", "--target", server.target)

    assert json.loads(result.stdout)["perplexity"] is None
