"""Does it answer, and how? Calls by method and code, and what ends generations."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from sluicegate.auth import Reason
from sluicegate.server.observe.labels import OTHER

CANCELLED = "CANCELLED"
"""The cause of a stream that its client ended; every other cause is a Reason."""
GRPC_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "UNAUTHENTICATED",
)
"""The codes that this server answers with."""


class RpcMetrics:
    """Counters of calls of any method, and of generations that were ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        method = ["grpc_service", "grpc_method"]
        self.started = Counter("grpc_server_started", "RPCs begun.", method, registry=registry)
        self.handled = Counter(
            "grpc_server_handled", "RPCs ended, by status code.", [*method, "grpc_code"], registry=registry
        )
        self.streams_terminated = Counter(
            "sluicegate_streams_terminated",
            "Generations that ended otherwise than by their own limits, by reason.",
            ["cause", "model"],
            registry=registry,
        )
        self._create_method(OTHER, OTHER)

    def expect(self, paths: Iterable[str]) -> None:
        """Create the series of these methods (`/package.Service/Method`)."""
        for path in paths:
            service, _, method = path.removeprefix("/").rpartition("/")
            self._create_method(service, method)

    def _create_method(self, service: str, method: str) -> None:
        self.started.labels(service, method)
        for code in GRPC_CODES:
            self.handled.labels(service, method, code)

    def create(self, models: Iterable[str]) -> None:
        """Create the series of these models."""
        for model in models:
            for cause in (CANCELLED, *(reason.value for reason in Reason)):
                self.streams_terminated.labels(cause, model)
