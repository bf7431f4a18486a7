"""The connection: TLS, retries, load balancing, keepalive, limits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import grpc

from sluicegate.client.errors import ConfigurationError, InsecureTransport
from sluicegate.client.targets import is_local

SERVICES = (
    "sluicegate.v1.GenerationService",
    "sluicegate.v1.ModelService",
    "sluicegate.v1.AccessService",
    "sluicegate.v1.ProvenanceService",
    "sluicegate.v1.WithdrawalService",
    "sluicegate.v1.ReleaseService",
    "sluicegate.v1.FindingService",
    "sluicegate.v1.EngineService",
)
MAX_REQUEST_BYTES = 4 << 20
MAX_RESPONSE_BYTES = 32 << 20
"""Eight candidates with twenty alternatives for each token are over gRPC's usual 4 MiB."""
KEEPALIVE_MILLISECONDS = 20_000
"""The server takes pings every 10 s; most load balancers drop what was silent for a minute or more."""

LOOKUP_INTERVAL_MILLISECONDS = 500
"""gRPC looks a name up when it loses a connection, but by itself no sooner than 30 s after it did so last. Until
then a client would know no live address of two replicas that are replaced one after the other. This is shorter than
its retries last."""


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS for a client: PEM files, read when the client connects.

    Without `ca`, the certificate authorities that gRPC brings along are trusted. `certificate` and `key`
    together prove who this client is (mTLS). `server_name` is the name to expect in the server's
    certificate, where it is not the target's.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("a client certificate needs its key, and a key its certificate")

    def credentials(self) -> grpc.ChannelCredentials:
        """The files' content for gRPC. Raises ConfigurationError if one cannot be read."""
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.certificate))


def service_config(health_check: str | None) -> str:
    """The gRPC service config, JSON.

    UNAVAILABLE is retried: it says that the call was not served, and another replica may. So is CANCELLED,
    with which gRPC's C core (1.85) drops a call that arrives in the moment in which its server stops; where a
    server of ours cancels on purpose, it forbids the retry. Every method here is safe to repeat until its
    first message (what was closed twice is closed, and a finding is filed once for each request's id), and
    gRPC itself never repeats a stream whose initial metadata has arrived. The server's
    `grpc-retry-pushback-ms` replaces the backoff, which gRPC jitters by a fifth. Throttling ends retries
    while most calls fail; its tokens are enough for a hundred calls at once that lose their replica.
    """
    config: dict[str, object] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": service} for service in SERVICES],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 200, "tokenRatio": 1},
    }
    if health_check is not None:
        config["healthCheckConfig"] = {"serviceName": health_check}
    return json.dumps(config)


def open_channel(target: str, *, tls: Tls | None, health_check: str | None, retry: bool) -> grpc.aio.Channel:
    """Open the channel; call it on the event loop that will use it. Nothing is sent yet."""
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", service_config(health_check)),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_retries", int(retry)),
        ("grpc.dns_min_time_between_resolutions_ms", LOOKUP_INTERVAL_MILLISECONDS),
        ("grpc.keepalive_time_ms", KEEPALIVE_MILLISECONDS),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
        ("grpc.primary_user_agent", "sluicegate-python"),
    ]
    if tls is None:
        # An http_proxy of the environment would take even a loopback connection off this machine.
        return grpc.aio.insecure_channel(target, [*options, ("grpc.enable_http_proxy", 0)])
    if tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.aio.secure_channel(target, tls.credentials(), options)


def require_private(target: str, tls: Tls | None) -> None:
    """Refuse to send a token where others can read it."""
    if tls is None and not is_local(target):
        raise InsecureTransport(
            f"a token would travel to {target} in the clear: use TLS (`tls=Tls()`, on the command line "
            "`--tls`), or a loopback address or unix socket"
        )


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as fault:
        raise ConfigurationError(f"{path} cannot be read: {fault.strerror}") from fault
