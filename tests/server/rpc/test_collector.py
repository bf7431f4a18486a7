"""The way to a collector: it never stands in a call's way."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from collector import collecting

from sluicegate.server.observe import spans
from sluicegate.server.observe.tracing import CallEnd
from sluicegate.server.rpc import collector as exporting
from sluicegate.server.rpc.collector import QUEUED_SPANS, traced

SERVED = CallEnd("OK", 0, None, 1, 0, 1, [])


def test_calls_do_not_wait_for_a_collector_and_what_it_does_not_take_is_dropped_and_told(
    monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    monkeypatch.setattr(exporting, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(spans, "MOST_TRACES_A_SECOND", 1_000_000)
    with collecting() as (collector, address):
        collector.answers.clear()
        with traced(
            f"http://{address}", certificates=None, instance="gate-0", sampled_share=1, follow_callers=False
        ) as tracing:
            for _ in range(3 * QUEUED_SPANS):
                tracing.begin("s", "m", "r", 0.0, lambda: None).finish(SERVED)
        told = [entry.get("problem", "") for entry in logs]

    assert any("Queue full" in problem for problem in told)
    assert "the collector did not take the last ones in time" in told


def test_the_librarys_log_is_left_as_it_was() -> None:
    library = logging.getLogger("opentelemetry")
    before = (library.propagate, list(library.handlers))

    with (
        collecting() as (_, address),
        traced(f"http://{address}", certificates=None, instance="gate-0", sampled_share=1, follow_callers=False),
    ):
        assert len(library.handlers) == len(before[1]) + 1

    assert (library.propagate, list(library.handlers)) == before
