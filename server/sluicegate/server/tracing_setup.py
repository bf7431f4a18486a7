"""Opens the traces that the settings ask for; without any, calls tell nobody. A part of app.py.

OpenTelemetry is an optional extra, so what needs it is imported here, once the settings have asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

from sluicegate.server import config
from sluicegate.server.errors import SettingsError
from sluicegate.server.observe.tracing import NoTracing, Tracing


@asynccontextmanager
async def opened_tracing(settings: config.Tracing | None, instance: str) -> AsyncIterator[Tracing]:
    """What traces calls while the context is open; `instance` names this replica. Raises SettingsError.

    Leaving it waits for the last spans, a few seconds at most, and the event loop goes on meanwhile.
    """
    with ExitStack() as stack:
        tracing = NoTracing() if settings is None else stack.enter_context(_traced(settings, instance))
        try:
            yield tracing
        finally:
            await asyncio.to_thread(stack.close)


def check_tracing(settings: config.Tracing) -> bytes | None:
    """The certificates that the collector is known by, if there are any. Raises SettingsError for what is missing."""
    try:
        import opentelemetry.exporter.otlp.proto.grpc
        import opentelemetry.sdk  # noqa: F401
    except ModuleNotFoundError:
        problem = "tracing: OpenTelemetry is not installed; run: pip install 'sluicegate[server,tracing]'"
        raise SettingsError([problem]) from None
    if settings.ca is None:
        return None
    try:
        return settings.ca.read_bytes()
    except OSError as error:
        raise SettingsError([f"tracing.ca: {settings.ca} cannot be read: {error.strerror}"]) from None


@contextmanager
def _traced(settings: config.Tracing, instance: str) -> Iterator[Tracing]:
    certificates = check_tracing(settings)
    from sluicegate.server.rpc.collector import traced

    with traced(
        settings.endpoint,
        certificates=certificates,
        instance=instance,
        sampled_share=settings.sampled_share,
        follow_callers=settings.follow_callers,
    ) as tracing:
        yield tracing
