"""Which calls are traced, and how their spans look. tests/server/rpc/test_tracing.py has them through the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from issuer import FakeClock
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sluicegate.server.observe.spans import MOST_TRACES_A_SECOND, SpanTracing, provider_of
from sluicegate.server.observe.tracing import NO_TRACE, CallEnd, CallTrace, NoTracing, Phase

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SERVED = CallEnd("OK", 0, None, 3, 2, 5, ["stop"])
CANCELLED = CallEnd("CANCELLED", 1, None, None, None, None, [])


class Desk:
    """Something that traces, and the spans that it has made."""

    def __init__(self, share: float = 1.0, *, follows: bool = False, draw: Callable[[], float] = lambda: 0.5) -> None:
        self.exporter, self.clock = InMemorySpanExporter(), FakeClock(1_000.0)
        provider = provider_of(SimpleSpanProcessor(self.exporter), {"service.name": "sluicegate"})
        self.tracing = SpanTracing(provider, sampled_share=share, follow_callers=follows, clock=self.clock, draw=draw)

    def begin(self, traceparent: str | None = None, method: str = "Generate") -> CallTrace:
        return self.tracing.begin("s.v1.Service", method, "request-1", self.clock(), lambda: traceparent)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_phases_follow_each_other_and_the_last_ends_with_the_call() -> None:
    desk = Desk()
    trace = desk.begin()
    for phase in (Phase.AUTHENTICATE, Phase.DECIDE):
        trace.begin(phase)
        desk.clock.now += 1
        trace.end()
        desk.clock.now += 0.5
    trace.begin(Phase.QUEUE)
    desk.clock.now += 2
    trace.begin(Phase.PREFILL)
    desk.clock.now += 4
    trace.begin(Phase.DECODE, at=desk.clock.now - 1)
    desk.clock.now += 8
    trace.finish(SERVED)

    lengths = {name: seconds(span) for name, span in desk.spans.items()}
    assert lengths == {
        "authenticate": 1,
        "decide": 1,
        "queue": 2,
        "prefill": 3,
        "decode": 9,
        "s.v1.Service/Generate": 17,
    }


def test_a_call_that_is_cancelled_in_the_queue_was_in_the_queue() -> None:
    desk = Desk()
    trace = desk.begin()
    trace.begin(Phase.QUEUE)
    desk.clock.now += 3

    trace.finish(CANCELLED)

    assert desk.spans.keys() == {"queue", "s.v1.Service/Generate"}
    assert seconds(desk.spans["queue"]) == 3
    root = desk.spans["s.v1.Service/Generate"]
    assert root.status.status_code.name == "UNSET"
    assert "gen_ai.usage.output_tokens" not in (root.attributes or {})


@pytest.mark.parametrize(("drawn", "is_traced"), [(0.0, True), (0.24, True), (0.25, False), (0.99, False)])
def test_a_share_of_the_calls_is_traced(drawn: float, is_traced: bool) -> None:
    trace = Desk(0.25, draw=lambda: drawn).begin(TRACEPARENT)

    assert (trace is not NO_TRACE) == is_traced
    assert (trace.exemplar is not None) == is_traced


@pytest.mark.parametrize("follows", [True, False])
def test_a_flood_of_calls_is_no_flood_of_traces(follows: bool) -> None:
    desk = Desk(follows=follows)

    first = [desk.begin(TRACEPARENT) for _ in range(MOST_TRACES_A_SECOND + 50)]
    desk.clock.now += 1
    second = desk.begin(TRACEPARENT)

    assert [trace.is_recording for trace in first] == [True] * MOST_TRACES_A_SECOND + [False] * 50
    assert second.is_recording


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        f"{TRACEPARENT},{TRACEPARENT}",
        f"01-{TRACEPARENT[3:]}-{'x' * 10_000}",
        "\x00",
        "é" * 55,
    ],
)
@pytest.mark.parametrize("follows", [True, False])
def test_what_is_no_traceparent_is_passed_over(traceparent: str, follows: bool) -> None:
    desk = Desk(follows=follows)

    desk.begin(traceparent).finish(SERVED)

    [root] = desk.spans.values()
    assert root.parent is None
    assert list(root.links) == []


def test_methods_that_write_no_text_are_no_operation_of_generative_ai() -> None:
    desk = Desk()

    desk.begin(method="ListModels").finish(CANCELLED)

    [root] = desk.spans.values()
    assert not [name for name in root.attributes or {} if name.startswith("gen_ai.")]


def test_where_nothing_is_traced_nothing_is_looked_at() -> None:
    def never() -> str | None:
        raise AssertionError("the caller's metadata was read")

    trace = NoTracing().begin("s", "m", "r", 0.0, never)

    assert trace is NO_TRACE
    trace.begin(Phase.QUEUE)
    trace.describe(model="m")
    trace.end()
    trace.finish(SERVED)
    assert trace.exemplar is None
