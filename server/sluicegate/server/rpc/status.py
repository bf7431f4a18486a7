"""The one table from reasons to gRPC statuses, and the details that go with them.

Codes follow docs/access.md. A refusal is never UNAVAILABLE, which clients retry; UNAVAILABLE says that another replica,
or the same one soon, may well serve the call. The text is fixed by the reason: nothing from the request gets into it.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from sluicegate.auth import Reason
from sluicegate.server.errors import CallRefused

DOMAIN = "sluicegate"
DETAILS_TRAILER = "grpc-status-details-bin"
PUSHBACK_TRAILER = "grpc-retry-pushback-ms"
NO_RETRY = "-1"  # gRFC A6: a pushback that is no time forbids the retry
USAGE_TRAILER = "sluicegate-usage-bin"


@dataclass(frozen=True, slots=True)
class Row:
    """How one reason is told: its code and its fixed text."""

    code: StatusCode
    text: str


_UNAUTHENTICATED = StatusCode.UNAUTHENTICATED
_DENIED = StatusCode.PERMISSION_DENIED
_EXHAUSTED = StatusCode.RESOURCE_EXHAUSTED
_UNAVAILABLE = StatusCode.UNAVAILABLE
_INVALID = StatusCode.INVALID_ARGUMENT

STATUSES: dict[Reason, Row] = {
    Reason.PEER_RATE_LIMIT: Row(_EXHAUSTED, "too many calls from this network; wait and try again"),
    Reason.TOKEN_MISSING: Row(_UNAUTHENTICATED, "send one `authorization: Bearer <token>` metadata value"),
    Reason.TOKEN_AMBIGUOUS: Row(
        _UNAUTHENTICATED, "send exactly one `authorization` value, and let it be a bearer token"
    ),
    Reason.TOKEN_MALFORMED: Row(_UNAUTHENTICATED, "the token is not a well-formed JWT; get a new one"),
    Reason.TOKEN_TYPE_INVALID: Row(_UNAUTHENTICATED, "not an access token: its `typ` must be at+jwt (RFC 9068)"),
    Reason.TOKEN_ALG_FORBIDDEN: Row(_UNAUTHENTICATED, "the token's signature algorithm is not accepted"),
    Reason.TOKEN_HEADER_FORBIDDEN: Row(_UNAUTHENTICATED, "the token's header has a parameter that is refused"),
    Reason.TOKEN_KEY_UNKNOWN: Row(_UNAUTHENTICATED, "the token's signing key is not known here"),
    Reason.KEYS_STALE: Row(_UNAVAILABLE, "the issuer's keys could not be refreshed; try again later"),
    Reason.TOKEN_SIGNATURE_INVALID: Row(_UNAUTHENTICATED, "the token's signature does not verify"),
    Reason.TOKEN_CLAIMS_INVALID: Row(_UNAUTHENTICATED, "a claim of the token is missing or malformed"),
    Reason.TOKEN_ISSUER_INVALID: Row(_UNAUTHENTICATED, "the token's issuer is not trusted here"),
    Reason.TOKEN_AUDIENCE_INVALID: Row(_UNAUTHENTICATED, "the token is meant for another audience"),
    Reason.TOKEN_NOT_YET_VALID: Row(_UNAUTHENTICATED, "the token is not valid yet; check the clocks"),
    Reason.TOKEN_EXPIRED: Row(_UNAUTHENTICATED, "the token has expired; get a new one"),
    Reason.TOKEN_LIFETIME_EXCESSIVE: Row(
        _UNAUTHENTICATED, "the token's lifetime is longer than accepted; ask for a shorter one"
    ),
    Reason.TOKEN_BINDING_MISMATCH: Row(
        _UNAUTHENTICATED, "the token is bound to another client certificate than this connection's"
    ),
    Reason.TOKEN_WITHDRAWN: Row(_UNAUTHENTICATED, "the token was withdrawn"),
    Reason.CALLER_WITHDRAWN: Row(_DENIED, "the operator withdrew this caller's access"),
    Reason.DENIAL_RATE_LIMIT: Row(_EXHAUSTED, "too many refused calls; wait and try again"),
    Reason.REQUEST_INVALID: Row(_INVALID, "a field breaks its rule; see the field violations"),
    Reason.SCOPE_MISSING: Row(_DENIED, "the token lacks the scope that this call needs"),
    Reason.MODEL_NOT_RELEASED: Row(_DENIED, "this model is not open to this caller at the active stage"),
    Reason.MODEL_WITHDRAWN: Row(_DENIED, "the operator closed this model"),
    Reason.AGREEMENT_REQUIRED: Row(_DENIED, "this call is open to partners under an agreement only"),
    Reason.AGREEMENT_UNKNOWN: Row(_DENIED, "the token names an agreement that is not on file"),
    Reason.AGREEMENT_NOT_ACTIVE: Row(_DENIED, "the agreement is not active"),
    Reason.AGREEMENT_EXPIRED: Row(_DENIED, "the agreement's term is over"),
    Reason.AGREEMENT_WITHDRAWN: Row(_DENIED, "the operator closed this agreement"),
    Reason.AGREEMENT_CLIENT_MISMATCH: Row(_DENIED, "the agreement does not name this client"),
    Reason.PURPOSE_NOT_PERMITTED: Row(_DENIED, "the agreement does not cover this purpose; state one that it does"),
    Reason.ACTION_NOT_PERMITTED: Row(_DENIED, "the agreement does not cover this action"),
    Reason.NETWORK_NOT_PERMITTED: Row(_DENIED, "the agreement does not cover the network of this call"),
    Reason.OUTSIDE_HOURS: Row(_DENIED, "the agreement does not cover this time of day"),
    Reason.TOKEN_BINDING_REQUIRED: Row(
        _UNAUTHENTICATED, "the agreement asks for a token bound to a client certificate (RFC 8705)"
    ),
    Reason.STEP_UP_REQUIRED: Row(
        _UNAUTHENTICATED, "the agreement asks for a stronger or fresher authentication (RFC 9470)"
    ),
    Reason.OUTPUT_TERMS_CONFLICT: Row(
        StatusCode.FAILED_PRECONDITION, "the request cannot be served under the terms for output"
    ),
    Reason.WITHDRAWALS_STALE: Row(_UNAVAILABLE, "the list of withdrawals is too old; try again later"),
    Reason.CONTEXT_LENGTH_EXCEEDED: Row(_INVALID, "prompt and output do not fit the model's context"),
    Reason.CONCURRENCY_LIMIT: Row(_EXHAUSTED, "too many streams at once; end one first"),
    Reason.REQUEST_RATE_LIMIT: Row(_EXHAUSTED, "too many requests a minute; wait and try again"),
    Reason.TOKEN_RATE_LIMIT: Row(_EXHAUSTED, "too many tokens a minute; wait and try again"),
    Reason.DAILY_TOKEN_QUOTA: Row(_EXHAUSTED, "the day's tokens are used up"),
    Reason.STATE_UNAVAILABLE: Row(_UNAVAILABLE, "the state that servers share could not be asked; try again later"),
    Reason.MODEL_NOT_READY: Row(_UNAVAILABLE, "the model is not loaded at present; try again"),
    Reason.SERVER_OVERLOADED: Row(_UNAVAILABLE, "this replica's queue is full; try another, or wait"),
    Reason.AUDIT_UNAVAILABLE: Row(_UNAVAILABLE, "the audit record could not be written; try again later"),
    Reason.SIGNATURES_REQUIRED: Row(
        StatusCode.FAILED_PRECONDITION, "lifting this opens wider: it needs the signatures of several signers"
    ),
    Reason.FINDING_UNKNOWN: Row(StatusCode.NOT_FOUND, "there is no such finding, or it is not this caller's to see"),
    Reason.FINDING_RATE_LIMIT: Row(_EXHAUSTED, "too many findings in a day; wait and try again"),
    Reason.REQUEST_UNKNOWN: Row(
        StatusCode.NOT_FOUND, "no such call is under way on this replica, or it is not this caller's to end"
    ),
    Reason.MODEL_LOAD_FAILED: Row(
        StatusCode.FAILED_PRECONDITION, "the model could not be loaded; the others are served all the same"
    ),
    Reason.CANCELLED_BY_CALLER: Row(
        StatusCode.CANCELLED, "the caller ended this call by another one; what was streamed is valid"
    ),
    Reason.CANCELLED_BY_OPERATOR: Row(StatusCode.CANCELLED, "an operator ended the call; what was streamed is valid"),
    Reason.STAGE_CHANGED: Row(_DENIED, "the release stage changed: the model is no longer open to this caller"),
    Reason.SERVER_DRAINING: Row(_UNAVAILABLE, "the server is shutting down; try another replica"),
    Reason.ENGINE_LOST: Row(_UNAVAILABLE, "the engine process was lost; what was streamed is valid, try again"),
    Reason.DEADLINE_EXCEEDED: Row(
        StatusCode.DEADLINE_EXCEEDED,
        "the call's time is over, or too short for a first token; what was streamed is valid",
    ),
    Reason.READER_STALLED: Row(StatusCode.ABORTED, "the client stopped reading its stream for too long"),
    Reason.METHOD_UNKNOWN: Row(StatusCode.UNIMPLEMENTED, "there is no such method"),
    Reason.METHOD_SCOPE_MISSING: Row(_DENIED, "the server declares no scope for this method, so nobody may call it"),
    Reason.INTERNAL: Row(StatusCode.INTERNAL, "a fault of the server; quote the request id to its operator"),
}


def status_code(reason: Reason) -> StatusCode:
    """The gRPC code of a reason."""
    return STATUSES[reason].code


def public_text(reason: Reason) -> str:
    """The fixed text of a reason."""
    return STATUSES[reason].text


def rpc_status(refused: CallRefused, request_id: str) -> status_pb2.Status:
    """The whole status with its details (google.rpc error model): ErrorInfo always, the others where they fit."""
    row = STATUSES[refused.reason]
    info = error_details_pb2.ErrorInfo(reason=refused.reason.value, domain=DOMAIN, metadata=refused.detail)
    details: list[message.Message] = [info]
    if refused.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in refused.violations
                ]
            )
        )
    if refused.quota is not None:
        limit = f"{refused.quota.quota}: {refused.quota.limit}"
        violation = error_details_pb2.QuotaFailure.Violation(subject=refused.quota.quota, description=limit)
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    if refused.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(refused.retry_after_seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    details.append(error_details_pb2.RequestInfo(request_id=request_id))
    return status_pb2.Status(code=row.code.value[0], message=row.text, details=[_packed(d) for d in details])


def trailers(refused: CallRefused, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata that carries the details, and the pushback that gRPC clients obey when they retry."""
    pairs: list[tuple[str, str | bytes]] = [(DETAILS_TRAILER, rpc_status(refused, request_id).SerializeToString())]
    if refused.retry_after_seconds is not None:
        # Never 0: gRPC's C core (1.85) leaves a call that is pushed back by 0 ms waiting for its deadline.
        pairs.append((PUSHBACK_TRAILER, str(max(1, round(refused.retry_after_seconds * 1000)))))
    elif status_code(refused.reason) is StatusCode.CANCELLED:
        # Our clients retry CANCELLED, with which gRPC drops calls when a server stops. This one was meant to end.
        pairs.append((PUSHBACK_TRAILER, NO_RETRY))
    return tuple(pairs)


def _packed(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
