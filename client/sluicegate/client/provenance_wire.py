"""What wire.py does, for detection."""

from __future__ import annotations

from sluicegate.client import wire
from sluicegate.client.provenance import Detection, Verdict, WatermarkCheck
from sluicegate.v1 import provenance_service_pb2 as pb


def detect_request(text: str, model: str) -> pb.DetectTextRequest:
    """The request; an empty model means all. Raises InvalidRequest."""
    return wire.message(pb.DetectTextRequest, text=text, model=model)


def detection(message: pb.DetectTextResponse) -> Detection:
    return Detection(
        verdict=_verdict(message.verdict),
        checks=tuple(_check(each) for each in message.checks),
        false_positive_rate=message.false_positive_rate,
    )


def _check(message: pb.WatermarkCheck) -> WatermarkCheck:
    return WatermarkCheck(
        model=message.model,
        epoch=message.epoch or None,
        watermark_id=message.watermark_id or None,
        verdict=_verdict(message.verdict),
        p_value=message.p_value if message.HasField("p_value") else None,
        scored_tokens=message.scored_tokens,
    )


def _verdict(number: int) -> Verdict:
    return wire.member(Verdict, pb.Verdict.DESCRIPTOR, number)
