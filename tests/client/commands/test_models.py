from __future__ import annotations

import json

import grpc
import pytest
from client_server import FakeServer, Refusal
from client_terminal import sluicegate
from model_cards import MODEL, SENT

from sluicegate.client.commands.exits import Exit
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


def test_a_watch_goes_on_when_its_replica_has_gone(server: FakeServer) -> None:
    first, second = (model_service_pb2.WatchModelsResponse(models=[each]) for each in (OPEN, CLOSED))
    gone = Refusal(code=grpc.StatusCode.UNAVAILABLE, pushback_ms="-1")
    server.will("WatchModels", [first, gone], [first, second, gone], [gone])

    result = sluicegate("models", "--watch", "--target", server.target)

    shown = [line.split()[0] for line in result.stdout.splitlines() if line.startswith("gpt2")]
    assert shown == ["gpt2-124m", "gpt2-1558m"]
    assert result.exit_code == Exit.UNAVAILABLE
    assert len(server.calls) == 3


def rows(section: str) -> list[str]:
    """The lines of a section below its title and headings, with one blank between words."""
    return [" ".join(line.split()) for line in section.splitlines()[2:]]


def test_a_card_is_shown_with_all_that_was_measured(server: FakeServer) -> None:
    server.will("GetModel", [SENT])

    result = sluicegate("models", "show", "gpt2-774m", "--target", server.target)

    facts, bias, watermark, memorisation, release = result.stdout.split("\n\n")
    assert "774,030,080 parameters, bfloat16" in facts
    assert "s2, open to partner" in facts
    assert "allowed (agr-1)" in facts
    assert rows(bias) == [
        "winobias 58.1 % 55.6 to 60.5 % (95 %) 1.02 nats 1,584 2026-01-10 12:00:00 UTC 1111111111111111",
        "occupations all are ties 0.00 nats 3 2026-01-10 12:00:00 UTC",
    ]
    assert watermark.startswith("Watermark wm-1, at a false-positive rate of 0.1 % (measured 2026-01-10 12:00:00 UTC")
    assert rows(watermark) == ["marked 0.7 200 400 98.5 %", "prose 10,000 0.09 %"]
    assert rows(memorisation) == [
        "cccccccccccccccc 50 tokens of it 256 1 1,000 0.2 % 0.02 to 0.72 % (95 %)"
        " 2026-01-10 12:00:00 UTC 3333333333333333"
    ]
    assert rows(release) == ["2026-01-10 12:00:00 UTC s1 -> s2 nobody -> partner 1111111111111111 2222222222222222"]


def test_a_card_says_what_was_not_measured(server: FakeServer) -> None:
    server.will("GetModel", [model_service_pb2.GetModelResponse(model=MODEL)])

    result = sluicegate("models", "show", "gpt2-774m", "--target", server.target)

    assert [line for line in result.stdout.splitlines() if ": " in line] == [
        "Bias: not measured on these weights",
        "Watermark: not measured on these weights",
        "Memorisation: not measured on these weights",
        "Release: as from the first stage on",
    ]


def test_of_weights_that_are_not_loaded_nothing_is_said(server: FakeServer) -> None:
    server.will("GetModel", [model_service_pb2.GetModelResponse(model=CLOSED)])

    result = sluicegate("models", "show", "gpt2-1558m", "--target", server.target)

    assert "It is not loaded, so its weights are not known, nor what was measured on them." in result.stdout
    assert "not measured" not in result.stdout


def test_a_card_as_json_is_an_object_with_the_model(server: FakeServer) -> None:
    server.will("GetModel", [SENT])

    told = json.loads(sluicegate("models", "show", "gpt2-774m", "--json", "--target", server.target).stdout)

    assert (told["model"]["id"], told["bias"][0]["share"], told["watermark"]["power"][0]["rate"]) == (
        "gpt2-774m",
        0.581,
        0.985,
    )
    assert told["openings"][0]["time"] == "2026-01-10T12:00:00+00:00"


def test_an_option_in_front_of_show_is_not_lost_in_silence(server: FakeServer) -> None:
    result = sluicegate("models", "--target", server.target, "show", "gpt2-774m")

    assert result.exit_code == 2
    assert "put --target behind `show`" in result.stderr
    assert server.calls == []
