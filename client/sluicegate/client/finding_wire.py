"""What wire.py does, for findings."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import fields
from enum import StrEnum

from google.protobuf.descriptor import FieldDescriptor

from sluicegate.client import findings, wire
from sluicegate.v1 import finding_service_pb2 as pb


def create_request(
    model: str,
    kind: findings.FindingKind,
    severity: findings.FindingSeverity,
    summary: str,
    *,
    details: str,
    attachments: Sequence[findings.Attachment],
    client_request_id: str,
    validate_only: bool,
) -> pb.CreateFindingRequest:
    """The request, under an id of its own where it brings none: so it is safe to repeat. Raises InvalidRequest."""
    known = pb.CreateFindingRequest.DESCRIPTOR.fields_by_name
    return wire.message(
        pb.CreateFindingRequest,
        model=model,
        kind=_number(known["kind"], kind),
        severity=_number(known["severity"], severity),
        summary=summary,
        details=details,
        attachments=[
            wire.message(
                pb.Attachment,
                "attachments.",
                **{each.name: getattr(attachment, each.name) for each in fields(attachment)},
            )
            for attachment in attachments
        ],
        client_request_id=client_request_id or str(uuid.uuid4()),
        validate_only=validate_only,
    )


def review_request(
    finding_id: str, status: findings.FindingStatus, justification: str, *, validate_only: bool
) -> pb.ReviewFindingRequest:
    """The request. Raises InvalidRequest."""
    return wire.message(
        pb.ReviewFindingRequest,
        id=finding_id,
        status=_number(pb.ReviewFindingRequest.DESCRIPTOR.fields_by_name["status"], status),
        justification=justification,
        validate_only=validate_only,
    )


def finding(message: pb.Finding) -> findings.Finding:
    review = message.review
    return findings.Finding(
        id=message.id,
        sha256=message.sha256,
        kind=wire.member(findings.FindingKind, pb.FindingKind.DESCRIPTOR, message.kind),
        model=message.model,
        severity=wire.member(findings.FindingSeverity, pb.FindingSeverity.DESCRIPTOR, message.severity),
        summary=message.summary,
        details=message.details,
        attachments=tuple(
            findings.Attachment(each.name, each.media_type, each.size_bytes, each.sha256)
            for each in message.attachments
        ),
        created=wire.time(message.create_time),
        weights_sha256=message.weights_sha256,
        stage=message.stage,
        partner=message.partner,
        agreement=message.agreement or None,
        reporter=message.reporter,
        status=wire.member(findings.FindingStatus, pb.FindingStatus.DESCRIPTOR, message.status),
        review=(
            findings.FindingReview(wire.time(review.review_time), review.justification)
            if message.HasField("review")
            else None
        ),
    )


def listed(messages: Iterable[pb.Finding]) -> tuple[findings.Finding, ...]:
    return tuple(map(finding, messages))


def duties(messages: Iterable[pb.FindingDuty]) -> tuple[findings.FindingDuty, ...]:
    return tuple(map(wire.finding_duty, messages))


def _number(field: FieldDescriptor, value: StrEnum) -> int:
    """The wire's number of a member. Raises InvalidRequest for what is none."""
    with wire.setting(field):
        enum = field.enum_type
        if enum is None or not isinstance(value, StrEnum):
            raise TypeError("not a member")
        prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
        if (found := enum.values_by_name.get(f"{prefix}{value.value}")) is None:
            raise ValueError("not a member")
        return found.number
