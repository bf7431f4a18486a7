"""grpc.health.v1 for the server, each service and each model as `models/<id>`.

Anyone may ask for "" and the services. A model's health is told to those who may know of the model; for everyone
else it is an unknown service, like a model that does not exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthServicer as HealthServicerBase
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from sluicegate.auth import Principal, Reason
from sluicegate.server.changes import Changes
from sluicegate.server.errors import CallRefused
from sluicegate.server.gate import Gate
from sluicegate.server.models import Models
from sluicegate.server.rpc.authenticator import Authenticator

MODEL_PREFIX = "models/"
# Any: the type stubs of the package do not know List, nor that statuses are numbers.
messages: Any = health_pb2
SERVING: int = messages.HealthCheckResponse.SERVING
NOT_SERVING: int = messages.HealthCheckResponse.NOT_SERVING
UNKNOWN: int = messages.HealthCheckResponse.SERVICE_UNKNOWN

Context = grpc.aio.ServicerContext[object, object]


class HealthServicer(HealthServicerBase):
    """Answers from the engines' state. Event loop only. `changes` must tell of every change of it."""

    def __init__(
        self, services: tuple[str, ...], authenticator: Authenticator, gate: Gate, models: Models, changes: Changes
    ) -> None:
        self._services = frozenset({"", *services})
        self._authenticator = authenticator
        self._gate = gate
        self._models = models
        self._changes = changes
        self._is_serving = True
        self._is_closed = False

    @property
    def is_serving(self) -> bool:
        """What the server as a whole answers: false once it drains."""
        return self._is_serving

    @property
    def is_complete(self) -> bool:
        """Whether it serves and an engine runs each model that is not unloaded.

        What the policy says of a model does not count: it says it of every replica. Nor does what an operator unloaded:
        the replica would lose the callers of its other models.
        """
        engines = self._models.engines
        wanted = (model for model in self._models.hosted if model not in engines.unloaded)
        return self._is_serving and all(map(engines.ready, wanted))

    def register(self, server: grpc.aio.Server) -> None:
        """Add this service to a server."""
        add_HealthServicer_to_server(self, server)

    def stop_serving(self) -> None:
        """Say NOT_SERVING from now on, to watchers at once: the server drains."""
        self._is_serving = False
        self._changes.announce()

    def close(self) -> None:
        """End every watch: nothing more will change."""
        self._is_closed = True
        self._changes.announce()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        status = self._status(request.service, self._caller(context)[1])
        if status == UNKNOWN:
            # The status that the health checking protocol prescribes, hence not one of ours.
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        answer: health_pb2.HealthCheckResponse = messages.HealthCheckResponse(status=status)
        return answer

    async def List(self, _request: object, context: Context) -> Any:
        _, knows = self._caller(context)
        names = [*self._services, *(MODEL_PREFIX + model for model in self._models.hosted)]
        statuses = {name: status for name in names if (status := self._status(name, knows)) != UNKNOWN}
        answers = {name: messages.HealthCheckResponse(status=status) for name, status in statuses.items()}
        return messages.HealthListResponse(statuses=answers)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        principal, knows = self._caller(context)
        told: int | None = None
        seen = self._changes.count
        while not self._is_closed:
            seconds = self._gate.watch_seconds(principal)  # before the status: a token may expire while that is told
            status = self._status(request.service, knows)
            if status != told:
                told = status
                yield messages.HealthCheckResponse(status=status)
            seen = await self._changes.beyond(seen, seconds)
        raise CallRefused(Reason.SERVER_DRAINING)

    def _caller(self, context: Context) -> tuple[Principal, Callable[[str], bool]]:
        """Who asks, and whether it may know of a model. A bad token is refused, as anywhere; none is fine here."""
        principal = self._authenticator.identify_if_any(context).principal
        return principal, lambda model: self._gate.may_know(principal, model)

    def _status(self, service: str, knows: Callable[[str], bool]) -> int:
        model = service.removeprefix(MODEL_PREFIX) if service.startswith(MODEL_PREFIX) else None
        if model is None and service not in self._services:
            return UNKNOWN
        if model is not None and not (model in self._models.hosted and knows(model)):
            return UNKNOWN
        is_ready = model is None or self._models.find(model) is not None
        return SERVING if self._is_serving and is_ready else NOT_SERVING
