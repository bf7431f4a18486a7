"""Static field rules: the protos state them (protovalidate), this module reports what breaks them."""

from __future__ import annotations

import protovalidate
from google.protobuf.message import Message

from sluicegate.auth import Reason
from sluicegate.server.errors import CallRefused, FieldViolation

SMALL_REQUEST_BYTES = 16 << 10
MAX_VIOLATIONS = 20


def validate(request: Message) -> None:
    """Raise CallRefused (REQUEST_INVALID) with the violated rules. Values are never quoted.

    A small request gets all its violations, a large one its first: a megabyte of broken list items would otherwise
    hold the event loop for seconds.
    """
    violations = protovalidate.collect_violations(request, fail_fast=True)
    if violations and request.ByteSize() <= SMALL_REQUEST_BYTES:
        violations = protovalidate.collect_violations(request)
    if violations:
        raise CallRefused(
            Reason.REQUEST_INVALID,
            violations=[_violation(violation) for violation in violations[:MAX_VIOLATIONS]],
        )


def _violation(violation: protovalidate.Violation) -> FieldViolation:
    proto = violation.proto
    parts = []
    for element in proto.field.elements if proto.field else ():
        subscript = element.subscript
        place = f"[{subscript.value}]" if subscript is not None and subscript.field == "index" else ""
        parts.append(f"{element.field_name}{place}")
    return FieldViolation(".".join(parts), proto.message)
