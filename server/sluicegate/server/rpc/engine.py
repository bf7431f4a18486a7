"""EngineService on the wire."""

from __future__ import annotations

import grpc

from sluicegate.server import operating
from sluicegate.server.config import Drain
from sluicegate.server.hosting import Hosting
from sluicegate.server.live import CallState
from sluicegate.server.operating import Operating
from sluicegate.server.paging import page_after
from sluicegate.server.rpc import responses
from sluicegate.server.rpc.call import authenticated
from sluicegate.server.rpc.validation import validate
from sluicegate.v1 import engine_service_pb2
from sluicegate.v1.engine_service_pb2_grpc import EngineServiceServicer

Context = grpc.aio.ServicerContext[object, object]


class EngineServicer(EngineServiceServicer):
    """Converts and passes on. `drain`: how long the steps of a drain may take."""

    def __init__(self, operating: Operating, hosting: Hosting, drain: Drain) -> None:
        self._operating = operating
        self._hosting = hosting
        self._drain = drain

    async def GetLoad(
        self, _request: engine_service_pb2.GetLoadRequest, context: Context
    ) -> engine_service_pb2.GetLoadResponse:
        authenticated(context)
        return engine_service_pb2.GetLoadResponse(engines=map(_engine, self._operating.load()))

    async def ListActiveRequests(
        self, request: engine_service_pb2.ListActiveRequestsRequest, context: Context
    ) -> engine_service_pb2.ListActiveRequestsResponse:
        authenticated(context)
        validate(request)
        active = self._operating.active()
        shown, following = page_after(active, lambda each: each.live.id, request.page_size, request.page_token)
        return engine_service_pb2.ListActiveRequestsResponse(requests=map(_active, shown), next_page_token=following)

    async def CancelRequest(
        self, request: engine_service_pb2.CancelRequestRequest, context: Context
    ) -> engine_service_pb2.CancelRequestResponse:
        operator = authenticated(context).caller.principal
        validate(request)
        seen = self._operating.cancel(
            operator, request.request_id, request.justification, validate_only=request.validate_only
        )
        return engine_service_pb2.CancelRequestResponse(request=_active(seen))

    async def LoadModel(
        self, request: engine_service_pb2.LoadModelRequest, context: Context
    ) -> engine_service_pb2.LoadModelResponse:
        operator = authenticated(context).caller.principal
        validate(request)
        await self._hosting.load(operator, request.model, request.justification, validate_only=request.validate_only)
        return engine_service_pb2.LoadModelResponse(model=_model(self._operating.load_of(request.model)))

    async def UnloadModel(
        self, request: engine_service_pb2.UnloadModelRequest, context: Context
    ) -> engine_service_pb2.UnloadModelResponse:
        operator = authenticated(context).caller.principal
        validate(request)
        grace = request.grace_duration.ToNanoseconds() / 1e9 if request.HasField("grace_duration") else None
        await self._hosting.unload(
            operator, request.model, request.justification, grace, validate_only=request.validate_only
        )
        return engine_service_pb2.UnloadModelResponse(model=_model(self._operating.load_of(request.model)))

    async def Drain(
        self, request: engine_service_pb2.DrainRequest, context: Context
    ) -> engine_service_pb2.DrainResponse:
        operator = authenticated(context).caller.principal
        validate(request)
        active = self._operating.drain(operator, request.justification, validate_only=request.validate_only)
        return engine_service_pb2.DrainResponse(
            announce_duration=responses.duration(self._drain.announce_seconds),
            grace_duration=responses.duration(self._drain.grace_seconds),
            active_requests=active,
        )


def _engine(load: operating.EngineLoad) -> engine_service_pb2.EngineLoad:
    return engine_service_pb2.EngineLoad(
        device=load.device, alive=load.is_alive, restarts=load.restarts, models=map(_model, load.models)
    )


def _model(load: operating.ModelLoad) -> engine_service_pb2.ModelLoad:
    message = engine_service_pb2.ModelLoad(
        model=load.model,
        state=responses.model_state(load.state),
        queued_requests=load.queued,
        running_sequences=load.running,
    )
    if (facts := load.facts) is not None:
        message.slots = facts.slots
        message.cache_bytes = facts.cache_bytes
        message.device = facts.device
        message.dtype = facts.dtype
        message.weights_sha256 = facts.weights_sha256
    return message


def _active(seen: operating.ActiveCall) -> engine_service_pb2.ActiveRequest:
    live, principal = seen.live, seen.live.call.caller.principal
    return engine_service_pb2.ActiveRequest(
        request_id=live.id,
        model=live.grant.model,
        action=live.call.record.action,
        state=_state(seen.state),
        age=responses.duration(seen.age_seconds),
        agreement=live.grant.agreement or "",
        issuer=principal.issuer,
        client_id=principal.client_id,
        prompt_tokens=live.usage.prompt_tokens,
        output_tokens=live.usage.output_tokens,
    )


def _state(found: CallState) -> engine_service_pb2.RequestState.ValueType:
    return engine_service_pb2.RequestState.Value(f"REQUEST_STATE_{found.name}")
