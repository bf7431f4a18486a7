from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import generate_latest

from sluicegate.server.engine.messages import Figures
from sluicegate.server.observe.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    metrics.allow(["gpt2-124m"], [])
    return metrics


def samples(metrics: Metrics) -> dict[str, float]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {name: float(value) for name, _, value in (each.rpartition(" ") for each in lines if each[0] != "#")}


def figures(model: str = "gpt2-124m", **changes: Any) -> Figures:
    members: dict[str, Any] = {
        "queued": 3,
        "running": 2,
        "slots": 8,
        "batch_rows": 2,
        "prefill_tokens": 7,
        "cached_tokens": 5,
        **changes,
    }
    return Figures(model=model, step_seconds=0.004, **members)


def test_a_step_is_shown(metrics: Metrics) -> None:
    metrics.engine.take_figures(figures())

    found = samples(metrics)
    assert found['sluicegate_engine_queue_length{model="gpt2-124m"}'] == 3
    assert found['sluicegate_engine_sequences_running{model="gpt2-124m"}'] == 2
    assert found['sluicegate_engine_slots_used_ratio{model="gpt2-124m"}'] == 0.25
    assert found['sluicegate_engine_step_duration_seconds_count{model="gpt2-124m"}'] == 1
    assert found['sluicegate_engine_batch_size_sum{model="gpt2-124m"}'] == 2
    assert found['sluicegate_engine_prefill_tokens_total{model="gpt2-124m"}'] == 7
    assert found['sluicegate_prefix_cached_tokens_total{model="gpt2-124m"}'] == 5


def test_a_step_that_ran_out_of_memory_is_counted_apart(metrics: Metrics) -> None:
    metrics.engine.take_figures(figures(batch_rows=0, out_of_memory=True))

    found = samples(metrics)
    assert found['sluicegate_engine_steps_out_of_memory_total{model="gpt2-124m"}'] == 1
    assert found.get('sluicegate_engine_step_duration_seconds_count{model="gpt2-124m"}', 0) == 0


def test_guessed_tokens_are_shown_by_what_became_of_them(metrics: Metrics) -> None:
    metrics.engine.take_figures(figures(drafted_tokens=10, accepted_tokens=7))
    metrics.engine.take_figures(figures(drafted_tokens=4, accepted_tokens=0))

    found = samples(metrics)
    assert found['sluicegate_speculative_tokens_total{model="gpt2-124m",outcome="accepted"}'] == 7
    assert found['sluicegate_speculative_tokens_total{model="gpt2-124m",outcome="rejected"}'] == 7


def test_figures_without_a_step_count_no_step(metrics: Metrics) -> None:
    metrics.engine.take_figures(figures(batch_rows=0, running=0, queued=0))

    assert samples(metrics).get('sluicegate_engine_step_duration_seconds_count{model="gpt2-124m"}', 0) == 0


def test_a_model_that_does_not_answer_has_nothing_queued_and_nothing_running(metrics: Metrics) -> None:
    metrics.engine.take_figures(figures())
    metrics.engine.take_state("gpt2-124m", is_ready=True)

    metrics.engine.take_state("gpt2-124m", is_ready=False)

    found = samples(metrics)
    for name in ("sluicegate_model_ready", "sluicegate_engine_queue_length", "sluicegate_engine_sequences_running"):
        assert found[f'{name}{{model="gpt2-124m"}}'] == 0
