"""What bench.gpu makes of what it measures; the measuring needs a device."""

from __future__ import annotations

import argparse

import pytest
import torch
from scripted_runner import ScriptedRunner

from bench import gpu
from bench.gpu import Timed, kernels, page, row, serve
from bench.limits import Limits
from bench.model import StepModel
from bench.work import SHAPES, requests

LIMITS = Limits(1e12, {"bfloat16": 1e15}, "a test")
OPTIONS = argparse.Namespace(prompt=100, tokens=101, rounds=2)


def test_decode_rate_is_of_what_the_whole_has_more() -> None:
    assert Timed(prefill=0.5, whole=1.5).decode_rate(batch=4, tokens=101) == 400


def test_ratios_are_those_of_the_rounds_and_the_floor_is_over_the_step() -> None:
    rounds = {"ours": [Timed(0.0, 1.0), Timed(0.0, 0.5)], "generate": [Timed(0.0, 2.0), Timed(0.0, 2.0)]}
    model = StepModel(SHAPES["124m"], "bfloat16", 0.0, LIMITS)

    found = row(OPTIONS, "124m", 1, rounds, model)

    assert (found.rates["ours"].lowest, found.rates["ours"].highest) == (100, 200)
    assert (found.ratios["generate"].lowest, found.ratios["generate"].highest) == (2, 4)
    weights = SHAPES["124m"].weights * 2
    assert found.of_floor == pytest.approx(weights / 1e12 * 150)


def test_an_engine_that_fails_is_left_out_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    missing: dict[str, str] = {}

    def fail(_work: object) -> None:
        raise RuntimeError("not for this model")

    rounds = gpu.measure(OPTIONS, "7m", 2, {"ours": lambda _: None, "peer": fail}, missing)

    assert list(rounds) == ["ours"]
    assert len(rounds["ours"]) == OPTIONS.rounds
    assert missing == {"7m, peer": "RuntimeError: not for this model"}


def test_kernels_are_in_order_of_their_time_with_their_shares() -> None:
    found = kernels([("small", 9, 10.0), ("none", 1, 0.0), ("large", 1, 30.0)])

    assert [(each.name, each.share) for each in found] == [("large", 0.75), ("small", 0.25)]


def test_all_requests_are_served_to_their_ends() -> None:
    runner = ScriptedRunner(slots=4, context_length=1_024, vocabulary_size=50_257)

    serve(runner, requests(3, "equal", 20, 5))

    assert runner.open_slots == {}
    assert sum(chunk.samples for step in runner.steps for chunk in step) == 15


def test_page_names_what_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a device")
    rounds = {"ours": [Timed(0.0, 1.0)], "generate": [Timed(0.0, 2.0)]}
    found = gpu.Found(
        rows=[row(OPTIONS, "124m", 1, rounds, StepModel(SHAPES["124m"], "bfloat16", 0.0, LIMITS))],
        profiles={"124m, batch 1": kernels([("gemm", 1, 3.0)])},
        missing={"1558m, batch 256": "90 slots fit"},
    )

    text = page(OPTIONS, LIMITS, found)

    assert "generate x2.00" in text
    assert "gemm" in text
    assert "not measured: 1558m, batch 256: 90 slots fit" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.gpu"])

    assert gpu.main() == 2
    assert "needs a CUDA device" in capsys.readouterr().err
