"""The listeners for callers and for operators: grpc.aio servers with their limits, interceptors and services."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_reflection.v1alpha import reflection

from sluicegate.server.auditing import Auditing
from sluicegate.server.config import Limits, Settings
from sluicegate.server.errors import SettingsError
from sluicegate.server.limiters import Limiters
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.observe.tracing import Tracing
from sluicegate.server.rpc.access import AccessServicer
from sluicegate.server.rpc.authenticator import Authenticator
from sluicegate.server.rpc.findings import FindingServicer
from sluicegate.server.rpc.generation import GenerationServicer
from sluicegate.server.rpc.health import HealthServicer
from sluicegate.server.rpc.interceptors import authentication, calls, errors, peer_limit
from sluicegate.server.rpc.methods import EXEMPT_SERVICES, caller_services, own_services, pool, required_scopes
from sluicegate.server.rpc.models import ModelServicer
from sluicegate.server.rpc.provenance import ProvenanceServicer
from sluicegate.server.rpc.release import ReleaseServicer
from sluicegate.server.rpc.withdrawals import WithdrawalServicer
from sluicegate.v1.access_service_pb2_grpc import add_AccessServiceServicer_to_server
from sluicegate.v1.finding_service_pb2_grpc import add_FindingServiceServicer_to_server
from sluicegate.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from sluicegate.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from sluicegate.v1.provenance_service_pb2_grpc import add_ProvenanceServiceServicer_to_server
from sluicegate.v1.release_service_pb2_grpc import add_ReleaseServiceServicer_to_server
from sluicegate.v1.withdrawal_service_pb2_grpc import add_WithdrawalServiceServicer_to_server

HEALTH_METHODS = frozenset(f"/grpc.health.v1.Health/{method}" for method in ("Check", "List", "Watch"))
REFLECTION_METHODS = frozenset({"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"})
SHORTEST_PING_INTERVAL_MILLISECONDS = 10_000

Build = Callable[[Authenticator, Sequence[ServiceDescriptor]], grpc.aio.Server]
"""`build_server`, with what all listeners have in common filled in."""

log = structlog.get_logger()


def served_methods() -> frozenset[str]:
    """The path of every method that is served on one of the listeners, of our services and of the exempt ones."""
    return frozenset(required_scopes(own_services())) | HEALTH_METHODS | REFLECTION_METHODS


def build_server(
    settings: Settings,
    limiters: Limiters,
    authenticator: Authenticator,
    services: Sequence[ServiceDescriptor],
    *,
    metrics: Metrics,
    auditing: Auditing,
    tracing: Tracing,
) -> grpc.aio.Server:
    """A server that is to have these services of ours. It has none yet, and no port."""
    scopes = required_scopes(services)
    methods = frozenset(scopes) | HEALTH_METHODS | REFLECTION_METHODS
    metrics.rpcs.expect(methods)
    interceptors = [
        errors(),
        calls(metrics, methods, auditing, tracing),
        peer_limit(authenticator.peers, limiters.peers, metrics),
        authentication(authenticator, limiters.denials, scopes, metrics, auditing),
    ]
    limits = settings.limits
    options: list[tuple[str, int]] = [
        ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server that takes half of the calls
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        # The soft and the hard limit are one: between two, gRPC refuses at random.
        ("grpc.max_metadata_size", limits.metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", SHORTEST_PING_INTERVAL_MILLISECONDS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 30_000),  # finds clients that vanished without a word
        ("grpc.keepalive_timeout_ms", 20_000),
        # A client looks its target's name up again only when it loses a connection. gRPC adds a jitter of a tenth.
        ("grpc.max_connection_age_ms", math.ceil(limits.connection_age_seconds * 1_000)),
        ("grpc.max_connection_age_grace_ms", math.ceil(_longest_stream_seconds(limits) * 1_000)),
    ]
    return grpc.aio.server(interceptors=interceptors, options=options)


def add_services(
    server: grpc.aio.Server,
    *,
    generation: GenerationServicer,
    models: ModelServicer,
    access: AccessServicer,
    provenance: ProvenanceServicer,
    release: ReleaseServicer,
    withdrawals: WithdrawalServicer,
    findings: FindingServicer,
    health: HealthServicer,
    with_reflection: bool,
) -> None:
    """Register every service that callers have."""
    add_GenerationServiceServicer_to_server(generation, server)
    add_ModelServiceServicer_to_server(models, server)
    add_AccessServiceServicer_to_server(access, server)
    add_ProvenanceServiceServicer_to_server(provenance, server)
    add_ReleaseServiceServicer_to_server(release, server)
    add_WithdrawalServiceServicer_to_server(withdrawals, server)
    add_FindingServiceServicer_to_server(findings, server)
    health.register(server)
    if with_reflection:
        reflect(server, [*(service.full_name for service in caller_services()), *sorted(EXEMPT_SERVICES)])


def reflect(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Register reflection, which shows these services and nothing else."""
    reflection.enable_server_reflection(services, server, pool(services))


def _longest_stream_seconds(limits: Limits) -> float:
    """What the longest generation may take, and the slowest reader of its end: only watches last longer."""
    return limits.call_seconds + limits.stalled_reader_seconds


def bind(server: grpc.aio.Server, setting: str, listen: str, credentials: grpc.ServerCredentials | None) -> str:
    """Take the port that a setting names; gives the address, with the port that was chosen where it says 0.

    Raises SettingsError if it cannot be had.
    """
    try:
        port = server.add_insecure_port(listen) if credentials is None else server.add_secure_port(listen, credentials)
    except RuntimeError:
        port = 0
    if not port:
        raise SettingsError([f"{setting}: cannot listen on {listen}; is the address right and the port free?"])
    if credentials is None:
        advice = "tokens travel in the clear: use loopback, or a proxy that ends TLS"
        log.warning("tls_off", setting=setting, advice=advice)
    host, separator, number = listen.rpartition(":")
    return f"{host}:{port}" if separator and number == "0" else listen
