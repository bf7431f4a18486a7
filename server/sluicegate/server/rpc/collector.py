"""The way of spans to an OpenTelemetry collector: OTLP over gRPC, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from sluicegate.server.observe.spans import SpanTracing, provider_of

QUEUED_SPANS, BATCH_SPANS = 2_048, 512
BATCH_MILLISECONDS = 2_000
EXPORT_SECONDS = 5.0
FLUSH_SECONDS = 3.0
"""For the last spans at a shutdown; what has not left then is lost."""
GIVE_UP_SECONDS = 1.0

log = structlog.get_logger()


class _Told(logging.Handler):
    """Takes what the library has to say of lost spans into our own log. It says a thing once in 20 seconds."""

    def emit(self, record: logging.LogRecord) -> None:
        log.warning("spans_not_exported", problem=record.getMessage())


@contextmanager
def traced(
    endpoint: str,
    *,
    certificates: bytes | None,
    instance: str,
    sampled_share: float,
    follow_callers: bool,
) -> Iterator[SpanTracing]:
    """Trace calls while the context is open. Leaving it waits for the last spans, FLUSH_SECONDS at most.

    `endpoint`: an http or https URL; `certificates`: PEM, of whom https trusts, None for the system's. A collector that
    does not answer is no error. Call and leave from a thread that may wait.
    """
    library, told = logging.getLogger("opentelemetry"), _Told(logging.WARNING)
    was_propagated, library.propagate = library.propagate, False
    library.addHandler(told)
    exporter = OTLPSpanExporter(endpoint, credentials=_credentials(endpoint, certificates), timeout=EXPORT_SECONDS)
    processor = BatchSpanProcessor(
        exporter,
        max_queue_size=QUEUED_SPANS,
        schedule_delay_millis=BATCH_MILLISECONDS,
        max_export_batch_size=BATCH_SPANS,
    )
    provider = provider_of(processor, {"service.name": "sluicegate", "service.instance.id": instance})
    try:
        yield SpanTracing(provider, sampled_share=sampled_share, follow_callers=follow_callers)
    finally:
        closing = threading.Thread(target=provider.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)
        if closing.is_alive():
            exporter.shutdown()  # whatever it waits for ends, and what is left is dropped
            closing.join(GIVE_UP_SECONDS)
            log.warning("spans_lost", problem="the collector did not take the last ones in time")
        library.removeHandler(told)
        library.propagate = was_propagated


def _credentials(endpoint: str, certificates: bytes | None) -> grpc.ChannelCredentials | None:
    return grpc.ssl_channel_credentials(certificates) if endpoint.startswith("https:") else None
