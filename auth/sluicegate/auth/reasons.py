"""Why a call was refused or ended: the one list of reasons.

Names equal values, and both equal the proto enum `Reason` without its `REASON_` prefix. The order is the
order of decision: the first check that fails gives the reason. docs/access.md says of each what the caller
should do.
"""

from __future__ import annotations

from enum import StrEnum, auto


class Reason(StrEnum):
    """One machine-readable reason; it goes to `ErrorInfo.reason`, to metrics and to the audit log."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:  # noqa: ARG004
        return name

    PEER_RATE_LIMIT = auto()
    """Row 1: too many calls from this network."""

    TOKEN_MISSING = auto()
    """Row 2: no bearer token."""
    TOKEN_AMBIGUOUS = auto()
    """Row 2: more than one `authorization` value."""
    TOKEN_MALFORMED = auto()
    """Row 3: too large, not canonical base64url, or not strict JSON."""
    TOKEN_TYPE_INVALID = auto()
    """Row 4: `typ` is not exactly `at+jwt`."""
    TOKEN_ALG_FORBIDDEN = auto()
    """Row 4: an algorithm that is not allowed, or not the one of the key."""
    TOKEN_HEADER_FORBIDDEN = auto()
    """Row 4: a header that brings its own key or changes how the token is read."""
    TOKEN_KEY_UNKNOWN = auto()
    """Row 5: no key of this `kid`."""
    KEYS_STALE = auto()
    """Row 5: the issuer's keys could not be refreshed for too long."""
    TOKEN_SIGNATURE_INVALID = auto()
    """Row 6."""
    TOKEN_CLAIMS_INVALID = auto()
    """Row 7: a claim is missing, of the wrong type, or out of bounds."""
    TOKEN_ISSUER_INVALID = auto()
    """Row 7: the issuer is not trusted here."""
    TOKEN_AUDIENCE_INVALID = auto()
    """Row 7: the token is for someone else."""
    TOKEN_NOT_YET_VALID = auto()
    """Row 7: `nbf` or `iat` lies in the future."""
    TOKEN_EXPIRED = auto()
    """Row 7, and in running streams: `exp` has come."""
    TOKEN_LIFETIME_EXCESSIVE = auto()
    """Rows 7 and 15: `exp - iat` is longer than this server, or the agreement, accepts."""
    TOKEN_BINDING_MISMATCH = auto()
    """Row 8: the token is bound to another TLS certificate."""
    TOKEN_WITHDRAWN = auto()
    """Row 9: this token, or the key that signed it, was withdrawn."""
    CALLER_WITHDRAWN = auto()
    """Row 9: this client or subject was withdrawn."""
    DENIAL_RATE_LIMIT = auto()
    """Row 10: this client was refused too often lately."""

    REQUEST_INVALID = auto()
    """Row 11: a field of the request breaks its rule."""
    SCOPE_MISSING = auto()
    """Row 12: the token lacks the scope that the method needs."""
    MODEL_NOT_RELEASED = auto()
    """Row 13: the active stage does not open this model to this caller; said of unknown models too."""
    MODEL_WITHDRAWN = auto()
    """Row 13: the model was closed to a caller who would be allowed otherwise."""
    AGREEMENT_REQUIRED = auto()
    """Row 14: the method is for partners only."""
    AGREEMENT_UNKNOWN = auto()
    """Row 13: the token names an agreement that the policy does not have."""
    AGREEMENT_NOT_ACTIVE = auto()
    """Row 14: draft, suspended, terminated, or not begun."""
    AGREEMENT_EXPIRED = auto()
    """Row 14: its end has come."""
    AGREEMENT_WITHDRAWN = auto()
    """Row 14: the operator closed it."""
    AGREEMENT_CLIENT_MISMATCH = auto()
    """Row 13: the agreement does not name this client."""
    PURPOSE_NOT_PERMITTED = auto()
    """Row 14."""
    ACTION_NOT_PERMITTED = auto()
    """Row 14."""
    NETWORK_NOT_PERMITTED = auto()
    """Row 14: the call comes from outside the agreement's networks."""
    OUTSIDE_HOURS = auto()
    """Row 14: outside the agreement's enforced hours."""
    TOKEN_BINDING_REQUIRED = auto()
    """Row 15: the agreement wants a token bound to a TLS certificate."""
    STEP_UP_REQUIRED = auto()
    """Row 15: the agreement wants a stronger or fresher authentication (RFC 9470)."""
    OUTPUT_TERMS_CONFLICT = auto()
    """Row 16: the request cannot be served under the agreement's output terms."""
    WITHDRAWALS_STALE = auto()
    """Row 17: the list of withdrawals is too old to rely on."""
    CONTEXT_LENGTH_EXCEEDED = auto()
    """Row 18: prompt and output do not fit the model's context."""
    CONCURRENCY_LIMIT = auto()
    """Row 19: too many streams at once."""
    REQUEST_RATE_LIMIT = auto()
    """Row 19: too many requests a minute."""
    TOKEN_RATE_LIMIT = auto()
    """Row 19: too many output tokens a minute."""
    DAILY_TOKEN_QUOTA = auto()
    """Row 19: the day's tokens are used up."""
    STATE_UNAVAILABLE = auto()
    """Row 19: the quota ledger could not be asked, and the policy does not serve this caller without it."""
    MODEL_NOT_READY = auto()
    """Row 20: the model is still loading or was unloaded."""
    SERVER_OVERLOADED = auto()
    """Row 20: no room on this replica."""
    AUDIT_UNAVAILABLE = auto()
    """Row 21: the audit record could not be made durable."""

    SIGNATURES_REQUIRED = auto()
    """Lifting this withdrawal opens wider, and too few signatures hold."""
    FINDING_UNKNOWN = auto()
    """No such finding, or none that the caller may see."""
    FINDING_RATE_LIMIT = auto()
    """Too many findings in 24 hours, of this reporter or of the public."""
    REQUEST_UNKNOWN = auto()
    """No call of this id is under way on this replica, or it is not the caller's to end."""
    CANCELLED_BY_OPERATOR = auto()
    """An operator ended the call."""
    CANCELLED_BY_CALLER = auto()
    """The caller ended the call, from another one."""
    MODEL_LOAD_FAILED = auto()
    """The model that an operator wants loaded cannot be."""
    STAGE_CHANGED = auto()
    """In a stream: the new stage does not open the model to this caller."""
    SERVER_DRAINING = auto()
    """The server is stopping."""
    ENGINE_LOST = auto()
    """The engine process died under this stream."""
    DEADLINE_EXCEEDED = auto()
    """The caller's deadline came, or would come before the call could start."""
    READER_STALLED = auto()
    """The caller stopped reading its stream."""
    METHOD_UNKNOWN = auto()
    """No such method."""
    METHOD_SCOPE_MISSING = auto()
    """The method declares no scope, so nobody may call it: a fault of the server's build."""
    INTERNAL = auto()
    """A fault of the server; its log has the cause."""
