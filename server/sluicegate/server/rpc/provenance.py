"""ProvenanceService on the wire."""

from __future__ import annotations

import grpc

from sluicegate.server.detecting import Detecting, WatermarkCheck
from sluicegate.server.rpc.call import authenticated
from sluicegate.server.rpc.validation import validate
from sluicegate.v1 import provenance_service_pb2
from sluicegate.v1.provenance_service_pb2_grpc import ProvenanceServiceServicer

Context = grpc.aio.ServicerContext[object, object]


class ProvenanceServicer(ProvenanceServiceServicer):
    """Converts and passes on."""

    def __init__(self, detecting: Detecting) -> None:
        self._detecting = detecting

    async def DetectText(
        self, request: provenance_service_pb2.DetectTextRequest, context: Context
    ) -> provenance_service_pb2.DetectTextResponse:
        caller = authenticated(context).caller
        validate(request)
        found = await self._detecting.detect(caller.principal, request.text, request.model or None)
        return provenance_service_pb2.DetectTextResponse(
            verdict=provenance_service_pb2.Verdict.Value(f"VERDICT_{found.verdict.name}"),
            checks=map(_check, found.checks),
            false_positive_rate=found.false_positive_rate,
        )


def _check(check: WatermarkCheck) -> provenance_service_pb2.WatermarkCheck:
    return provenance_service_pb2.WatermarkCheck(
        model=check.model,
        epoch=check.key.epoch if check.key is not None else 0,
        watermark_id=check.key.id if check.key is not None else "",
        verdict=provenance_service_pb2.Verdict.Value(f"VERDICT_{check.verdict.name}"),
        p_value=check.p_value,
        scored_tokens=check.scored_tokens,
    )
