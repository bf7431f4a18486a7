"""What a caller can do about each reason: the one table that errors and the command line read from."""

from __future__ import annotations

from collections.abc import Mapping

_RENEW = "get a new access token from the issuer"
_ASK_OPERATOR = "ask the server's operator"
_LATER = "try again later; nothing is wrong with the request"
_AGAIN = "try again; another replica may answer at once"

REMEDIES: Mapping[str, str] = {
    "TOKEN_MISSING": "send a token: pass `token=`, or set SLUICEGATE_TOKEN_FILE",
    "TOKEN_AMBIGUOUS": "send exactly one bearer token, and let no proxy add another",
    "TOKEN_MALFORMED": _RENEW,
    "TOKEN_TYPE_INVALID": "send the access token (`typ` at+jwt), not an ID token",
    "TOKEN_ALG_FORBIDDEN": "let the issuer sign with an algorithm that the server accepts",
    "TOKEN_HEADER_FORBIDDEN": _RENEW,
    "TOKEN_KEY_UNKNOWN": "try again in half a minute if the issuer has just changed its keys",
    "KEYS_STALE": _LATER,
    "TOKEN_SIGNATURE_INVALID": _RENEW,
    "TOKEN_CLAIMS_INVALID": "let the issuer put every claim of RFC 9068 into the token",
    "TOKEN_ISSUER_INVALID": "use an issuer that this server trusts",
    "TOKEN_AUDIENCE_INVALID": "ask the issuer for a token with this server as its audience",
    "TOKEN_NOT_YET_VALID": "set the clocks of this machine and of the issuer right",
    "TOKEN_EXPIRED": _RENEW,
    "TOKEN_LIFETIME_EXCESSIVE": "ask the issuer for a token with a shorter lifetime",
    "TOKEN_BINDING_MISMATCH": "connect with the client certificate that the token is bound to",
    "TOKEN_WITHDRAWN": "get a new access token; if that is refused too, " + _ASK_OPERATOR,
    "CALLER_WITHDRAWN": _ASK_OPERATOR,
    "PEER_RATE_LIMIT": "wait, then send fewer calls from this network",
    "DENIAL_RATE_LIMIT": "wait, and stop asking for what is refused",
    "REQUEST_INVALID": "change the fields named above",
    "SCOPE_MISSING": "get a token that has the scope",
    "MODEL_NOT_RELEASED": "use one of the models that `sluicegate models` shows, or ask for an agreement",
    "MODEL_WITHDRAWN": "use another model, or " + _ASK_OPERATOR,
    "AGREEMENT_REQUIRED": "ask the operator for an agreement",
    "AGREEMENT_UNKNOWN": "ask for a token that names an agreement on file",
    "AGREEMENT_NOT_ACTIVE": "ask the operator about the agreement's state",
    "AGREEMENT_EXPIRED": "ask the operator to renew the agreement",
    "AGREEMENT_WITHDRAWN": _ASK_OPERATOR,
    "AGREEMENT_CLIENT_MISMATCH": "use a client that the agreement names, or have this one added",
    "PURPOSE_NOT_PERMITTED": "state a purpose that the agreement covers (`sluicegate whoami` lists them)",
    "ACTION_NOT_PERMITTED": "have the agreement cover the action (`sluicegate whoami` lists those it does)",
    "NETWORK_NOT_PERMITTED": "call from a network that the agreement covers",
    "OUTSIDE_HOURS": "call within the hours that the agreement covers",
    "TOKEN_BINDING_REQUIRED": "use a client certificate and a token bound to it (RFC 8705)",
    "STEP_UP_REQUIRED": "authenticate again, and more strongly, as the agreement asks (RFC 9470)",
    "OUTPUT_TERMS_CONFLICT": "change the request: a watermark needs sampling (no temperature below 0.1, "
    "no top_k 1), and redaction excludes tokens and log-probabilities",
    "WITHDRAWALS_STALE": _LATER,
    "CONTEXT_LENGTH_EXCEEDED": "shorten the prompt or ask for fewer output tokens",
    "CONCURRENCY_LIMIT": "end a stream first",
    "REQUEST_RATE_LIMIT": "wait, then send fewer requests a minute",
    "TOKEN_RATE_LIMIT": "wait, then ask for fewer tokens a minute",
    "DAILY_TOKEN_QUOTA": "wait for the next day, or ask the operator for more",
    "STATE_UNAVAILABLE": _LATER,
    "MODEL_NOT_READY": "try again in a while: the model is being loaded, or operators have taken it out",
    "SERVER_OVERLOADED": _AGAIN,
    "AUDIT_UNAVAILABLE": _LATER,
    "SIGNATURES_REQUIRED": "have more signers sign the lifting of this withdrawal",
    "FINDING_UNKNOWN": "use an id that `sluicegate finding list` shows",
    "FINDING_RATE_LIMIT": "wait, then file fewer findings: sum up what belongs together",
    "REQUEST_UNKNOWN": "use the id of a call that is under way on this replica",
    "MODEL_LOAD_FAILED": "mend what the server's log names",
    "CANCELLED_BY_CALLER": "nothing to do: somebody with the same client and subject meant it",
    "CANCELLED_BY_OPERATOR": _ASK_OPERATOR,
    "STAGE_CHANGED": "use one of the models that `sluicegate models` shows now",
    "SERVER_DRAINING": _AGAIN,
    "ENGINE_LOST": _AGAIN,
    "DEADLINE_EXCEEDED": "allow more time (`timeout`) or ask for fewer tokens",
    "READER_STALLED": "read the stream faster, or generate without streaming",
    "METHOD_UNKNOWN": "use a client of the server's version, and for `client.engine` the operators' listener",
    "METHOD_SCOPE_MISSING": "report it to the server's operator",
    "INTERNAL": "report it to the server's operator with the request id",
}
"""Reason → remedy, for every reason of the API."""

_WITH_FACTS: Mapping[str, str] = {
    "SCOPE_MISSING": "get a token that has the scope `{required_scope}`",
    "SIGNATURES_REQUIRED": "have {needed} signers sign the lifting of this withdrawal "
    "(`sluicegate policy sign-lifting`); {valid} valid so far",
    "MODEL_LOAD_FAILED": "mend this: {problem}",
    "STEP_UP_REQUIRED": "authenticate again with acr {acr_values}, at most {max_age} s ago (RFC 9470)",
    "CONTEXT_LENGTH_EXCEEDED": "shorten the prompt ({prompt_tokens} tokens) or ask for fewer output tokens: "
    "the context has {context_length}",
}
_WITHOUT_REASON: Mapping[str, str] = {
    "UNAUTHENTICATED": _RENEW,
    "PERMISSION_DENIED": _ASK_OPERATOR,
    "INVALID_ARGUMENT": "change the request",
    "FAILED_PRECONDITION": "change the request",
    "OUT_OF_RANGE": "change the request",
    "NOT_FOUND": "change the request",
    "RESOURCE_EXHAUSTED": "wait, then send less",
    "UNAVAILABLE": "check that the server runs at this target, and that both sides use TLS or neither does",
    "DEADLINE_EXCEEDED": "allow more time (`timeout`) or ask for fewer tokens",
    "CANCELLED": "nothing to do if this side meant it; else try again",
    "ABORTED": "try again",
    "INTERNAL": "try again: a proxy says so of a stream whose replica died",
    "UNIMPLEMENTED": "check that the target is a Sluicegate server of this client's version",
}


def remedy_for(reason: str | None, code: str, metadata: Mapping[str, str]) -> str:
    """What would let the call through, as one clause. An unknown reason falls back to what the code says."""
    if reason is not None and reason in REMEDIES:
        try:
            return _WITH_FACTS[reason].format_map(metadata)
        except KeyError:
            return REMEDIES[reason]
    return _WITHOUT_REASON.get(code, "report it to the server's operator")
