"""Row 7's first part: from the members of a token to a principal, each with exactly the type it must have.

The tokens are RFC 9068 access tokens. Nothing is converted: a number as a string, or true for 1, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sluicegate.auth import scopes
from sluicegate.auth.encoding import decode_base64url
from sluicegate.auth.errors import AuthenticationError
from sluicegate.auth.grant import QUOTA_NAMES
from sluicegate.auth.principal import AuthorizationDetail, Principal
from sluicegate.auth.reasons import Reason

MAX_NAME_LENGTH = 255
MAX_DETAILS = 8
MAX_DETAIL_NAMES = 32
PARTNERSHIP = "model_partnership"

LEEWAY_SECONDS = 30
"""For clocks that run ahead of ours: `iat`, `nbf`, `auth_time`. `exp` has none."""

_LAST_TIME = 253_402_300_799  # the end of the year 9999
_DETAIL_MEMBERS = frozenset({"type", "agreement", "actions", "models", "purpose", "limits"})


def principal_of(claims: Mapping[str, object], key_id: str) -> Principal:
    """The principal that these claims describe. Raises AuthenticationError, TOKEN_CLAIMS_INVALID {claim}.

    Judges types and bounds only: whether the token is trusted, ours and in time is the verifier's to say.
    """
    issued_at = time_claim(claims, "iat")
    expires_at = time_claim(claims, "exp")
    authenticated_at = optional_time_claim(claims, "auth_time")
    if expires_at <= issued_at:
        raise invalid("exp")
    if authenticated_at is not None and authenticated_at > issued_at + LEEWAY_SECONDS:
        raise invalid("auth_time")
    return Principal(
        issuer=_name(claims.get("iss"), "iss"),
        subject=_name(claims.get("sub"), "sub"),
        client_id=_name(claims.get("client_id"), "client_id"),
        token_id=_name(claims.get("jti"), "jti"),
        key_id=key_id,
        scopes=_scopes(claims.get("scope")),
        authorization_details=_details(claims.get("authorization_details", [])),
        issued_at=issued_at,
        expires_at=expires_at,
        authenticated_at=authenticated_at,
        acr=_name(claims["acr"], "acr") if "acr" in claims else None,
        certificate_thumbprint=_thumbprint(claims["cnf"]) if "cnf" in claims else None,
    )


def time_claim(claims: Mapping[str, object], name: str) -> int:
    """A claim in whole Unix seconds. Raises AuthenticationError for any other type, `true` included."""
    value = claims.get(name)
    if type(value) is not int or not 0 <= value <= _LAST_TIME:
        raise invalid(name)
    return value


def optional_time_claim(claims: Mapping[str, object], name: str) -> int | None:
    """As `time_claim`; None if the claim is absent. A claim that is null is not absent."""
    return time_claim(claims, name) if name in claims else None


def audience_claim(claims: Mapping[str, object]) -> str:
    """The one audience: `aud` as a string, or as a list of exactly one. Raises AuthenticationError."""
    value = claims.get("aud")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return _name(value, "aud")


def invalid(claim: str) -> AuthenticationError:
    return AuthenticationError(Reason.TOKEN_CLAIMS_INVALID, {"claim": claim})


def _name(value: object, claim: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_LENGTH or not value.isprintable():
        raise invalid(claim)
    return value


def _scopes(value: object) -> frozenset[str]:
    if not isinstance(value, str):
        raise invalid("scope")
    try:
        return scopes.parse(value)
    except ValueError as error:
        raise invalid("scope") from error


def _thumbprint(confirmation: object) -> str:
    """`cnf` with `x5t#S256` alone: a confirmation that we cannot check must not pass for one that we did."""
    if not isinstance(confirmation, dict) or set(confirmation) != {"x5t#S256"}:
        raise invalid("cnf")
    text = confirmation["x5t#S256"]
    try:
        is_digest = isinstance(text, str) and len(decode_base64url(text)) == 32
    except ValueError as error:
        raise invalid("cnf") from error
    if not is_digest:
        raise invalid("cnf")
    return str(text)


def _details(value: object) -> tuple[AuthorizationDetail, ...]:
    """Our entries of `authorization_details`; those of other types are for other servers (RFC 9396)."""
    if not isinstance(value, list) or len(value) > MAX_DETAILS:
        raise invalid("authorization_details")
    details = []
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise invalid("authorization_details")
        if entry["type"] == PARTNERSHIP:
            details.append(_detail(entry))
    return tuple(details)


def _detail(entry: Mapping[str, object]) -> AuthorizationDetail:
    """One partnership. A member that we do not know may narrow in a way we would miss, so it is refused."""
    if not entry.keys() <= _DETAIL_MEMBERS:
        raise invalid("authorization_details")
    purpose = entry.get("purpose")
    return AuthorizationDetail(
        agreement=_name(entry.get("agreement"), "authorization_details"),
        actions=_names(entry["actions"]) if "actions" in entry else None,
        models=_names(entry["models"]) if "models" in entry else None,
        purpose=_name(purpose, "authorization_details") if "purpose" in entry else None,
        limits=_limits(entry.get("limits", {})),
    )


def _names(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_DETAIL_NAMES:
        raise invalid("authorization_details")
    return frozenset(_name(item, "authorization_details") for item in value)


def _limits(value: object) -> Mapping[str, int]:
    if not isinstance(value, dict) or not value.keys() <= QUOTA_NAMES:
        raise invalid("authorization_details")
    limits: dict[str, int] = {}
    for name, limit in value.items():
        if type(limit) is not int or not 1 <= limit <= 10**12:
            raise invalid("authorization_details")
        limits[name] = limit
    return MappingProxyType(limits)
