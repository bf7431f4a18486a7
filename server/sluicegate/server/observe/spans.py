"""Traces of calls as OpenTelemetry spans. The only home of opentelemetry, which is there with the extra `tracing`.

Spans leave in the background, through a bounded queue that drops what does not fit: a collector that is slow or gone
costs traces and nothing else. Attributes are named as OpenTelemetry's conventions for RPC and for generative AI have
them (semantic conventions 1.37); those of our own begin with `sluicegate.`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from itertools import pairwise

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sluicegate.server.observe.tracing import NO_TRACE, CallEnd, CallTrace, Phase

MOST_TRACES_A_SECOND = 100
"""Whatever share is sampled and whoever asks for it: a flood of calls is no flood of traces."""
MOST_TRACEPARENT_CHARACTERS = 128
"""A version 00 header has 55; later versions may be longer."""
SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Codes that make a server's span an error (semantic conventions for gRPC): not those of denials."""
OPERATIONS = {"Generate": "text_completion", "StreamGenerate": "text_completion"}
"""Methods that the conventions for generative AI have an operation for."""


def provider_of(processor: SpanProcessor, attributes: Mapping[str, str]) -> TracerProvider:
    """What makes spans for the processor. `attributes`: of the resource, as `service.name`."""
    provider = TracerProvider(
        sampler=ALWAYS_ON,  # what is sampled is decided before, without making a span
        resource=Resource(attributes),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    return provider


class SpanTracing:
    """Traces a share of all calls, 0 to 1. Event loop only.

    A caller's traceparent never decides whether its call is traced, unless `follow_callers`: then its trace is
    continued if it says that it is sampled, and the call is not traced if it says that it is not. Otherwise the call
    has a trace of its own, with a link to the caller's.
    """

    def __init__(
        self,
        provider: TracerProvider,
        *,
        sampled_share: float,
        follow_callers: bool,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._tracer = provider.get_tracer("sluicegate")
        self._sampled_share = sampled_share
        self._follow_callers = follow_callers
        self._clock = clock
        self._draw = draw
        self._propagator = TraceContextTextMapPropagator()
        self._second = 0
        self._begun = 0
        """Traces begun in this second."""

    def begin(
        self, service: str, method: str, request_id: str, arrived: float, traceparent: Callable[[], str | None]
    ) -> CallTrace:
        """See tracing.Tracing."""
        parent = self._parent(traceparent()) if self._follow_callers else None
        is_sampled = parent.trace_flags.sampled if parent is not None else self._draw() < self._sampled_share
        if not is_sampled or not self._has_room():
            return NO_TRACE
        caller = parent if self._follow_callers else self._parent(traceparent())
        offset = time.time_ns() - round(self._clock() * 1e9)
        span = self._tracer.start_span(
            f"{service}/{method}",
            context=None if parent is None else set_span_in_context(NonRecordingSpan(parent)),
            kind=SpanKind.SERVER,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": method,
                "sluicegate.request_id": request_id,
            },
            links=[Link(caller)] if caller is not None and parent is None else [],
            start_time=offset + round(arrived * 1e9),
        )
        if (operation := OPERATIONS.get(method)) is not None:
            span.set_attributes({"gen_ai.operation.name": operation, "gen_ai.provider.name": "sluicegate"})
        return _CallSpans(self._tracer, span, self._clock, offset)

    def _has_room(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._begun = second, 0
        self._begun += 1
        return self._begun <= MOST_TRACES_A_SECOND

    def _parent(self, traceparent: str | None) -> SpanContext | None:
        """The caller's span, if the header is one. Its `tracestate`, which may hold any text, is not taken over."""
        if traceparent is None or len(traceparent) > MOST_TRACEPARENT_CHARACTERS:
            return None
        found = get_current_span(self._propagator.extract({"traceparent": traceparent})).get_span_context()
        return found if found.is_valid else None


class _CallSpans:
    """A span for the call, and at its end one for each phase."""

    is_recording = True

    def __init__(self, tracer: Tracer, span: Span, clock: Callable[[], float], offset: int) -> None:
        """`offset`: nanoseconds from the clock's zero to the Unix epoch, one for the call, so that its spans fit."""
        self._offset = offset
        self._tracer = tracer
        self._span = span
        self._clock = clock
        self._marks: list[tuple[Phase | None, float]] = []
        """When which phase began; None: when one ended and none began."""
        self.exemplar: dict[str, str] | None = {"trace_id": f"{span.get_span_context().trace_id:032x}"}

    def begin(self, phase: Phase, at: float | None = None) -> None:
        """See tracing.CallTrace, as for the next."""
        self._marks.append((phase, self._clock() if at is None else at))

    def end(self) -> None:
        self._marks.append((None, self._clock()))

    def describe(self, *, model: str | None = None, partner: str | None = None, audience: str | None = None) -> None:
        said = {"gen_ai.request.model": model, "sluicegate.partner": partner, "sluicegate.audience": audience}
        self._span.set_attributes({name: value for name, value in said.items() if value is not None})

    def finish(self, end: CallEnd) -> None:
        now = self._clock()
        context = set_span_in_context(self._span)
        for (phase, began), (_, ended) in pairwise([*self._marks, (None, now)]):
            if phase is not None:
                child = self._tracer.start_span(phase.value, context=context, start_time=self._epoch(began))
                child.end(self._epoch(ended))
        self._span.set_attribute("rpc.grpc.status_code", end.code_number)
        if end.reason is not None:
            self._span.set_attributes({"sluicegate.reason": end.reason, "error.type": end.reason})
        tokens = {
            "gen_ai.usage.input_tokens": end.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": end.cached_tokens,
            "gen_ai.usage.output_tokens": end.output_tokens,
        }
        self._span.set_attributes({name: count for name, count in tokens.items() if count is not None})
        if end.finishes:
            self._span.set_attribute("gen_ai.response.finish_reasons", list(end.finishes))
        if end.code in SERVER_FAULTS:
            self._span.set_status(StatusCode.ERROR)
        self._span.end(self._epoch(now))

    def _epoch(self, seconds: float) -> int:
        return self._offset + round(seconds * 1e9)
