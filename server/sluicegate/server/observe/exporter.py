"""The Prometheus endpoint: `GET /metrics`, on a port and a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from sluicegate.server.errors import SettingsError
from sluicegate.server.observe.exposition import WithoutCreated
from sluicegate.server.observe.metrics import Metrics


@contextmanager
def exported(metrics: Metrics, listen: str) -> Iterator[int]:
    """Serve the metrics while the context is open; yields the port (the one chosen, where `listen` says 0).

    Raises SettingsError if the address cannot be listened on.
    """
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), WithoutCreated(metrics.registry))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError([f"metrics.listen: cannot listen on {listen}: {reason}"]) from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
