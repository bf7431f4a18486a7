"""From a gRPC status with its trailers to the error that a caller catches.

Trailers come from the network: a proxy may cut or replace them. What cannot be read is left out,
never guessed, and never hides the status itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from sluicegate.client import errors
from sluicegate.client.results import Usage
from sluicegate.v1 import generation_pb2

DOMAIN = "sluicegate"
DETAILS_TRAILER = "grpc-status-details-bin"
PUSHBACK_TRAILER = "grpc-retry-pushback-ms"
USAGE_TRAILER = "sluicegate-usage-bin"

Trailers = Iterable[tuple[str, str | bytes]]

_MAX_TEXT = 1_000
_MAX_ENTRIES = 100
_REASON = re.compile(r"[A-Z][A-Z0-9_]{1,62}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")

_CLASSES: Mapping[grpc.StatusCode, type[errors.CallError]] = {
    grpc.StatusCode.UNAUTHENTICATED: errors.AuthenticationFailed,
    grpc.StatusCode.PERMISSION_DENIED: errors.AccessDenied,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: errors.InvalidRequest,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.QuotaExceeded,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.ABORTED: errors.ReaderStalled,
}
"""Every other code is a ServerFault."""


@dataclass(slots=True)
class _Details:
    reason: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[errors.FieldViolation, ...] = ()
    retry_after: float | None = None
    request_id: str | None = None


def call_error(code: grpc.StatusCode, message: str | None, trailers: Trailers) -> errors.CallError:
    """The error for a status; its class says what to do, its fields say why."""
    pairs = _by_name(trailers)
    details = _details(pairs.get(DETAILS_TRAILER), code)
    return _CLASSES.get(code, errors.ServerFault)(
        printable(message or ""),
        code=code,
        reason=details.reason,
        retry_after=_pushback(pairs) if details.retry_after is None else details.retry_after,
        metadata=details.metadata,
        field_violations=details.violations,
        request_id=details.request_id,
        usage=_usage(pairs.get(USAGE_TRAILER)),
    )


def printable(text: str) -> str:
    """The text, cut to a bound, without the characters that steer terminals or reorder what is read."""
    return _CONTROL.sub(" ", text)[:_MAX_TEXT]


def _by_name(trailers: Trailers) -> dict[str, str | bytes]:
    return {name.lower(): value for name, value in trailers}


def _details(raw: str | bytes | None, code: grpc.StatusCode) -> _Details:
    found = _Details()
    status = status_pb2.Status()
    if not isinstance(raw, bytes) or not _parsed(status, raw) or status.code != code.value[0]:
        return found
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    about = error_details_pb2.RequestInfo()
    for detail in status.details[:_MAX_ENTRIES]:
        if detail.Is(info.DESCRIPTOR) and _parsed(info, detail.value):
            _read_info(info, found)
        elif detail.Is(request.DESCRIPTOR) and _parsed(request, detail.value):
            found.violations = tuple(
                errors.FieldViolation(printable(each.field), printable(each.description))
                for each in request.field_violations[:_MAX_ENTRIES]
            )
        elif detail.Is(retry.DESCRIPTOR) and _parsed(retry, detail.value):
            seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
            found.retry_after = seconds if seconds >= 0 else None
        elif detail.Is(about.DESCRIPTOR) and _parsed(about, detail.value):
            found.request_id = printable(about.request_id) or None
    return found


def _read_info(info: error_details_pb2.ErrorInfo, found: _Details) -> None:
    if info.domain == DOMAIN and _REASON.fullmatch(info.reason):
        found.reason = info.reason
        entries = sorted(info.metadata.items())[:_MAX_ENTRIES]
        found.metadata = {printable(name): printable(value) for name, value in entries}


def _pushback(pairs: Mapping[str, str | bytes]) -> float | None:
    value = pairs.get(PUSHBACK_TRAILER)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value):
        return int(value) / 1000
    return None


def _usage(raw: str | bytes | None) -> Usage | None:
    usage = generation_pb2.Usage()
    if not isinstance(raw, bytes) or not _parsed(usage, raw):
        return None
    return Usage(prompt_tokens=usage.prompt_tokens, output_tokens=usage.output_tokens)


def _parsed(into: Message, raw: bytes) -> bool:
    try:
        into.ParseFromString(raw)
    except DecodeError:
        return False
    return True
