"""A listener for probes that speak no TLS, such as those of Kubernetes: `Check` of the server and of all its models.

It has no interceptors, since it has nothing to guard: no token is read, no call is counted, no model is named.
"""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from sluicegate.server.errors import SettingsError
from sluicegate.server.rpc.health import NOT_SERVING, SERVING, HealthServicer, messages

MODELS = "models"
"""The service that serves while every model of the server does. Which models there are, it does not tell."""
MAX_MESSAGE_BYTES = 1_024
MAX_CALLS = 16

Context = grpc.aio.ServicerContext[Any, Any]


class ProbeListener:
    """Answers `grpc.health.v1.Health/Check` of the services "" and MODELS. Event loop only.

    `address` is None, and the rest does nothing, where the settings ask for no such listener.
    """

    def __init__(self, listen: str | None) -> None:
        """Take the port, so that one in use is found before anything loads. Raises SettingsError."""
        self.address: str | None = None
        if listen is None:
            return
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_concurrent_streams", MAX_CALLS),
        ]
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError:
            port = 0
        if not port:
            raise SettingsError([f"health.listen: cannot listen on {listen}; is the address right and the port free?"])
        host, separator, number = listen.rpartition(":")
        self.address = f"{host}:{port}" if separator and number == "0" else listen

    async def start(self, health: HealthServicer) -> None:
        """Answer from now on; before, a probe gets no answer, as it should while models load."""
        if self.address is None:
            return

        async def check(request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
            if request.service not in ("", MODELS):
                await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
            is_good = health.is_complete if request.service else health.is_serving
            status = SERVING if is_good else NOT_SERVING
            answer: health_pb2.HealthCheckResponse = messages.HealthCheckResponse(status=status)
            return answer

        handler = grpc.unary_unary_rpc_method_handler(
            check,
            request_deserializer=messages.HealthCheckRequest.FromString,
            response_serializer=messages.HealthCheckResponse.SerializeToString,
        )
        service = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})
        self._server.add_generic_rpc_handlers((service,))
        await self._server.start()

    async def stop(self) -> None:
        """Close the port, whether it was started or not."""
        if self.address is not None:
            await self._server.stop(None)
