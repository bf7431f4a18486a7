"""Asks a server's port for probes, as Kubernetes does."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from sluicegate.server.errors import ServerError
from sluicegate.server.rpc.health import SERVING, messages


def probe(address: str, service: str, seconds: float) -> bool:
    """Whether a service serves. Waits for an answer for so long. Raises ServerError if there is none, or none to that.

    `address`: `health.listen` of the server. `service`: "" or `models`.
    """
    # No proxy: its answer would be another's.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its type stubs know no method
        request = messages.HealthCheckRequest(service=service)
        try:
            answer = stub.Check(request, timeout=seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            raise ServerError(f"{address} does not say whether it serves ({code.name})") from error
    is_serving: bool = answer.status == SERVING
    return is_serving
