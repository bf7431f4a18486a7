from __future__ import annotations

import json
import time
from pathlib import Path

from bench.frontend.callers import Counts
from bench.frontend.engine import TextRunner
from bench.frontend.pod import sampled
from sluicegate.server.engine.runner import Chunk


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_counting_begins_anew_when_counts_are_taken() -> None:
    counts = Counts(calls=2, messages=5, tokens=7, gaps=[0.3, 0.1, 0.2])

    taken = counts.take()

    assert (taken.calls, taken.messages, taken.tokens, taken.gap_quantiles()) == (2, 5, 7, (200.0, 300.0))
    assert counts == Counts()


def test_the_text_is_read_on_by_each_stream_from_its_own_place() -> None:
    runner = TextRunner([10, 11, 12], vocabulary_size=100, slots=2, step_seconds=0)

    outcomes = runner.run([Chunk(0, 0, [1, 2, 3, 4], samples=True), Chunk(1, 0, [1], samples=False)])
    after = runner.run([Chunk(0, 4, [11], samples=True)])

    assert [[token.id for token in outcome.drawn] for outcome in (*outcomes, *after)] == [[11], [], [12]]


def test_samples_tell_which_function_used_the_processor(tmp_path: Path) -> None:
    with sampled(tmp_path / "profile.json"):
        burn(0.2)

    found = json.loads((tmp_path / "profile.json").read_text())
    assert found["samples"] > 10
    assert next(iter(found["own"])).endswith("test_frontend.py:burn")
    assert found["total"]["bench/test_frontend.py:burn"] <= 1
