"""What kind of denial each reason is: the one table from reasons to the classes of `sluicegate_denials_total`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from sluicegate.auth import Reason


class DenialClass(StrEnum):
    """What it was that the caller lacked."""

    AUTHN = "authn"
    """Someone the server believes: all that is answered with UNAUTHENTICATED, and callers that were withdrawn."""
    SCOPE = "scope"
    STAGE = "stage"
    """A stage that opens the model to it."""
    AGREEMENT = "agreement"
    """An agreement that carries the call."""
    QUOTA = "quota"
    WITHDRAWN = "withdrawn"
    """What it had before: operators withdrew the model or the agreement, or the stage changed while the call waited.

    Apart from the others, so that who goes on with what was open an hour ago does not look like one who tries doors.
    """


_AUTHN, _SCOPE, _STAGE = DenialClass.AUTHN, DenialClass.SCOPE, DenialClass.STAGE
_AGREEMENT, _QUOTA, _WITHDRAWN = DenialClass.AGREEMENT, DenialClass.QUOTA, DenialClass.WITHDRAWN

DENIAL_CLASSES: Mapping[Reason, DenialClass | None] = MappingProxyType(
    {
        # The limiters judge nobody's rights: a flood is not a denial, and what follows a denial is not one more.
        Reason.PEER_RATE_LIMIT: None,
        Reason.DENIAL_RATE_LIMIT: None,
        Reason.TOKEN_MISSING: _AUTHN,
        Reason.TOKEN_AMBIGUOUS: _AUTHN,
        Reason.TOKEN_MALFORMED: _AUTHN,
        Reason.TOKEN_TYPE_INVALID: _AUTHN,
        Reason.TOKEN_ALG_FORBIDDEN: _AUTHN,
        Reason.TOKEN_HEADER_FORBIDDEN: _AUTHN,
        Reason.TOKEN_KEY_UNKNOWN: _AUTHN,
        Reason.TOKEN_SIGNATURE_INVALID: _AUTHN,
        Reason.TOKEN_CLAIMS_INVALID: _AUTHN,
        Reason.TOKEN_ISSUER_INVALID: _AUTHN,
        Reason.TOKEN_AUDIENCE_INVALID: _AUTHN,
        Reason.TOKEN_NOT_YET_VALID: _AUTHN,
        Reason.TOKEN_EXPIRED: _AUTHN,
        Reason.TOKEN_LIFETIME_EXCESSIVE: _AUTHN,
        Reason.TOKEN_BINDING_MISMATCH: _AUTHN,
        Reason.TOKEN_BINDING_REQUIRED: _AUTHN,
        Reason.STEP_UP_REQUIRED: _AUTHN,
        Reason.TOKEN_WITHDRAWN: _AUTHN,
        Reason.CALLER_WITHDRAWN: _AUTHN,
        Reason.SCOPE_MISSING: _SCOPE,
        Reason.MODEL_NOT_RELEASED: _STAGE,
        Reason.MODEL_WITHDRAWN: _WITHDRAWN,
        Reason.STAGE_CHANGED: _WITHDRAWN,
        Reason.AGREEMENT_REQUIRED: _AGREEMENT,
        Reason.AGREEMENT_UNKNOWN: _AGREEMENT,
        Reason.AGREEMENT_NOT_ACTIVE: _AGREEMENT,
        Reason.AGREEMENT_EXPIRED: _AGREEMENT,
        Reason.AGREEMENT_WITHDRAWN: _WITHDRAWN,
        Reason.AGREEMENT_CLIENT_MISMATCH: _AGREEMENT,
        Reason.PURPOSE_NOT_PERMITTED: _AGREEMENT,
        Reason.ACTION_NOT_PERMITTED: _AGREEMENT,
        Reason.NETWORK_NOT_PERMITTED: _AGREEMENT,
        Reason.OUTSIDE_HOURS: _AGREEMENT,
        Reason.OUTPUT_TERMS_CONFLICT: _AGREEMENT,
        Reason.CONCURRENCY_LIMIT: _QUOTA,
        Reason.REQUEST_RATE_LIMIT: _QUOTA,
        Reason.TOKEN_RATE_LIMIT: _QUOTA,
        Reason.DAILY_TOKEN_QUOTA: _QUOTA,
        Reason.FINDING_RATE_LIMIT: _QUOTA,
        # Mistakes of the request.
        Reason.REQUEST_INVALID: None,
        Reason.CONTEXT_LENGTH_EXCEEDED: None,
        Reason.SIGNATURES_REQUIRED: None,
        Reason.FINDING_UNKNOWN: None,
        Reason.REQUEST_UNKNOWN: None,
        Reason.MODEL_LOAD_FAILED: None,
        Reason.METHOD_UNKNOWN: None,
        # The server's own state, whoever calls.
        Reason.KEYS_STALE: None,
        Reason.WITHDRAWALS_STALE: None,
        Reason.STATE_UNAVAILABLE: None,
        Reason.MODEL_NOT_READY: None,
        Reason.SERVER_OVERLOADED: None,
        Reason.AUDIT_UNAVAILABLE: None,
        Reason.METHOD_SCOPE_MISSING: None,
        Reason.INTERNAL: None,
        # Ends of running calls.
        Reason.SERVER_DRAINING: None,
        Reason.ENGINE_LOST: None,
        Reason.DEADLINE_EXCEEDED: None,
        Reason.READER_STALLED: None,
        Reason.CANCELLED_BY_CALLER: None,
        Reason.CANCELLED_BY_OPERATOR: None,
    }
)
"""Every reason; None for those that deny the caller nothing that it lacks."""
