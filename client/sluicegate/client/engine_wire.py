"""What wire.py does, for engines."""

from __future__ import annotations

from sluicegate.client import engines, wire
from sluicegate.client.results import ModelState
from sluicegate.v1 import engine_service_pb2 as pb
from sluicegate.v1 import model_service_pb2


def cancel_request(request_id: str, justification: str, *, validate_only: bool) -> pb.CancelRequestRequest:
    """The request. Raises InvalidRequest."""
    return wire.message(
        pb.CancelRequestRequest, request_id=request_id, justification=justification, validate_only=validate_only
    )


def load_request(model: str, justification: str, *, validate_only: bool) -> pb.LoadModelRequest:
    """The request. Raises InvalidRequest."""
    return wire.message(pb.LoadModelRequest, model=model, justification=justification, validate_only=validate_only)


def unload_request(
    model: str, justification: str, grace_seconds: float | None, *, validate_only: bool
) -> pb.UnloadModelRequest:
    """The request. Raises InvalidRequest."""
    request = wire.message(pb.UnloadModelRequest, model=model, justification=justification, validate_only=validate_only)
    if grace_seconds is not None:
        with wire.setting(pb.UnloadModelRequest.DESCRIPTOR.fields_by_name["grace_duration"]):
            request.grace_duration.FromNanoseconds(round(grace_seconds * 1e9))
    return request


def drain_request(justification: str, *, validate_only: bool) -> pb.DrainRequest:
    """The request. Raises InvalidRequest."""
    return wire.message(pb.DrainRequest, justification=justification, validate_only=validate_only)


def drain_plan(message: pb.DrainResponse) -> engines.DrainPlan:
    return engines.DrainPlan(
        announce_seconds=message.announce_duration.ToNanoseconds() / 1e9,
        grace_seconds=message.grace_duration.ToNanoseconds() / 1e9,
        active_requests=message.active_requests,
    )


def load(message: pb.GetLoadResponse) -> tuple[engines.EngineLoad, ...]:
    return tuple(
        engines.EngineLoad(each.device, each.alive, each.restarts, tuple(map(model_load, each.models)))
        for each in message.engines
    )


def active(message: pb.ActiveRequest) -> engines.ActiveRequest:
    return engines.ActiveRequest(
        request_id=message.request_id,
        model=message.model,
        action=message.action,
        state=wire.member(engines.RequestState, pb.RequestState.DESCRIPTOR, message.state),
        age_seconds=message.age.ToNanoseconds() / 1e9,
        agreement=message.agreement or None,
        issuer=message.issuer or None,
        client_id=message.client_id or None,
        prompt_tokens=message.prompt_tokens,
        output_tokens=message.output_tokens,
    )


def model_load(message: pb.ModelLoad) -> engines.ModelLoad:
    return engines.ModelLoad(
        model=message.model,
        state=wire.member(ModelState, model_service_pb2.ModelState.DESCRIPTOR, message.state),
        queued_requests=message.queued_requests,
        running_sequences=message.running_sequences,
        slots=message.slots or None,
        cache_bytes=message.cache_bytes or None,
        device=message.device or None,
        dtype=message.dtype or None,
        weights_sha256=message.weights_sha256 or None,
    )
