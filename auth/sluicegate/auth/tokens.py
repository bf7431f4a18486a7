"""The token verifier: rows 2 to 8 of the decision order, with no switch that weakens a check.

PyJWT verifies the signature, and nothing else of a token is left to it. Left alone, PyJWT 2.15.1 takes
`exp` as a string, duplicate members, any `typ`, UTF-16 payloads and trailing `=`
(tests/auth/test_known_attacks.py).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import jwt

from sluicegate.auth.claims import LEEWAY_SECONDS, audience_claim, invalid, optional_time_claim, principal_of
from sluicegate.auth.encoding import decode_base64url, parse_json
from sluicegate.auth.errors import AuthenticationError, ConfigurationError
from sluicegate.auth.jwk import ALGORITHMS, MAX_KEY_ID_LENGTH, VerificationKey
from sluicegate.auth.principal import Peer, Principal
from sluicegate.auth.reasons import Reason

MAX_TOKEN_BYTES = 6 * 1024
MAX_LIFETIME_SECONDS = 3600
TOKEN_TYPE = "at+jwt"  # noqa: S105

_CACHED_TOKENS = 4096
_FORBIDDEN_HEADERS = frozenset({"crit", "b64", "jku", "jwk", "x5u", "x5c"})
_TEXT_HEADERS = ("cty", "x5t", "x5t#S256")
"""Not used here; but what RFC 7515 (section 4.1) defines as text has to be, or other libraries refuse the token."""


class KeySource(Protocol):
    """The keys of one issuer, at hand: no member of it does I/O."""

    def find(self, key_id: str) -> VerificationKey | None:
        """The key of this `kid`, or None."""

    @property
    def is_stale(self) -> bool:
        """Whether the set is too old to be relied on."""

    def request_refresh(self) -> None:
        """Ask for a fresh set in the background."""


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer whose tokens count here, for one audience and some algorithms. None of these may be empty."""

    issuer: str
    audience: str
    algorithms: frozenset[str]
    keys: KeySource

    def __post_init__(self) -> None:
        if not self.issuer or not self.audience:
            raise ConfigurationError("an issuer needs its name and the audience that its tokens must have")
        if not self.algorithms or not self.algorithms <= ALGORITHMS:
            raise ConfigurationError(f"an issuer needs algorithms out of {', '.join(sorted(ALGORITHMS))}")


@dataclass(frozen=True, slots=True)
class ParsedToken:
    """A token in canonical form, its signature not looked at: nothing in it is true yet."""

    header: Mapping[str, object]
    claims: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token whose signature and claims held; what depends on the time and the peer is checked each call."""

    trusted: TrustedIssuer
    key: VerificationKey
    principal: Principal
    not_before: int


def bearer(values: Sequence[str | bytes]) -> str:
    """Row 2: the token of the one `authorization` value. Raises AuthenticationError.

    A comma cannot stand in a token: it is where a proxy joined two values.
    """
    if not values:
        raise AuthenticationError(Reason.TOKEN_MISSING)
    if len(values) > 1:
        raise AuthenticationError(Reason.TOKEN_AMBIGUOUS)
    [value] = values
    try:
        text = value.decode("ascii") if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise AuthenticationError(Reason.TOKEN_MALFORMED) from error
    scheme, _, token = text.partition(" ")
    token = token.lstrip(" ")
    if scheme.lower() != "bearer" or not token:
        raise AuthenticationError(Reason.TOKEN_MISSING)
    if "," in token:
        raise AuthenticationError(Reason.TOKEN_AMBIGUOUS)
    return token


def parse_token(token: str) -> ParsedToken:
    """Row 3: header and claims of a canonical token. Raises AuthenticationError, TOKEN_MALFORMED."""
    parts = token.split(".", 3) if len(token) <= MAX_TOKEN_BYTES else ()
    if len(parts) != 3 or not all(parts):
        raise AuthenticationError(Reason.TOKEN_MALFORMED)
    try:
        header, claims = (parse_json(decode_base64url(part)) for part in parts[:2])
        decode_base64url(parts[2])
    except ValueError as error:
        raise AuthenticationError(Reason.TOKEN_MALFORMED) from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise AuthenticationError(Reason.TOKEN_MALFORMED)
    return ParsedToken(header, claims)


class TokenVerifier:
    """Turns tokens into principals. Event loop only; never does I/O.

    Verified tokens are remembered by the SHA-256 of their canonical form, so that a caller's next call costs
    no signature check. Their key must still be in the set, and times and binding are checked on every call.
    """

    def __init__(
        self,
        issuers: Sequence[TrustedIssuer],
        *,
        clock: Callable[[], float],
        max_lifetime_seconds: int = MAX_LIFETIME_SECONDS,
    ) -> None:
        self._issuers = {trusted.issuer: trusted for trusted in issuers}
        if not issuers or len(self._issuers) != len(issuers):
            raise ConfigurationError("a verifier needs at least one trusted issuer, and none of them twice")
        if max_lifetime_seconds < 1:
            raise ConfigurationError("the maximum lifetime of tokens must be positive")
        self._clock = clock
        self._max_lifetime_seconds = max_lifetime_seconds
        self._signatures = jwt.PyJWS(algorithms=sorted(ALGORITHMS))
        self._cache: OrderedDict[bytes, _Verified] = OrderedDict()

    def verify(self, token: str, peer: Peer) -> Principal:
        """The principal of a good token. Raises AuthenticationError with the first check that fails."""
        if len(token) > MAX_TOKEN_BYTES:
            raise AuthenticationError(Reason.TOKEN_MALFORMED)
        try:
            digest = hashlib.sha256(token.encode("ascii")).digest()
        except UnicodeEncodeError as error:
            raise AuthenticationError(Reason.TOKEN_MALFORMED) from error
        verified = self._cache.get(digest)
        if verified is None or not self._still_holds(verified):
            self._cache.pop(digest, None)
            verified = self._verify(token)
            self._cache[digest] = verified
            if len(self._cache) > _CACHED_TOKENS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(digest)
        self._check_times(verified)
        bound_to = verified.principal.certificate_thumbprint
        if bound_to is not None and bound_to != peer.certificate_thumbprint:
            raise AuthenticationError(Reason.TOKEN_BINDING_MISMATCH)
        return verified.principal

    def _still_holds(self, verified: _Verified) -> bool:
        keys = verified.trusted.keys
        return not keys.is_stale and keys.find(verified.key.key_id) == verified.key

    def _verify(self, token: str) -> _Verified:
        """Rows 3 to 7, apart from the clock."""
        parsed = parse_token(token)
        algorithm, key_id = _checked_header(parsed.header)
        issuer = parsed.claims.get("iss")
        trusted = self._issuers.get(issuer) if isinstance(issuer, str) else None
        key = self._key(trusted, key_id)
        if algorithm != key.algorithm or (trusted is not None and algorithm not in trusted.algorithms):
            raise AuthenticationError(Reason.TOKEN_ALG_FORBIDDEN)
        self._check_signature(token, key)
        principal = principal_of(parsed.claims, key.key_id)
        audience = audience_claim(parsed.claims)
        not_before = optional_time_claim(parsed.claims, "nbf")
        if not_before is not None and not_before >= principal.expires_at:
            raise invalid("nbf")
        if trusted is None:
            raise AuthenticationError(Reason.TOKEN_ISSUER_INVALID)
        if audience != trusted.audience:
            raise AuthenticationError(Reason.TOKEN_AUDIENCE_INVALID)
        return _Verified(trusted, key, principal, not_before or 0)

    def _key(self, trusted: TrustedIssuer | None, key_id: str | None) -> VerificationKey:
        """Row 5. A token of a foreign issuer is judged to its end by any key of that name, then refused.

        So the order of reasons stays that of the table, and its issuer is still what refuses it.
        """
        if trusted is not None and trusted.keys.is_stale:
            trusted.keys.request_refresh()
            raise AuthenticationError(Reason.KEYS_STALE)
        sources = [trusted] if trusted is not None else list(self._issuers.values())
        found = [key for source in sources if key_id is not None and (key := source.keys.find(key_id))]
        if not found:
            if trusted is not None and key_id is not None:
                trusted.keys.request_refresh()
            raise AuthenticationError(Reason.TOKEN_KEY_UNKNOWN)
        return found[0]

    def _check_signature(self, token: str, key: VerificationKey) -> None:
        try:
            self._signatures.decode(token, key=key.public_key, algorithms=[key.algorithm])
        except jwt.PyJWTError as error:
            raise AuthenticationError(Reason.TOKEN_SIGNATURE_INVALID) from error

    def _check_times(self, verified: _Verified) -> None:
        now = self._clock()
        principal = verified.principal
        if max(verified.not_before, principal.issued_at) > now + LEEWAY_SECONDS:
            raise AuthenticationError(Reason.TOKEN_NOT_YET_VALID)
        if principal.expires_at <= now:
            raise AuthenticationError(Reason.TOKEN_EXPIRED)
        if principal.expires_at - principal.issued_at > self._max_lifetime_seconds:
            maximum = {"max_lifetime_seconds": str(self._max_lifetime_seconds)}
            raise AuthenticationError(Reason.TOKEN_LIFETIME_EXCESSIVE, maximum)


def _checked_header(header: Mapping[str, object]) -> tuple[str, str | None]:
    """Row 4: algorithm and `kid`; None for a `kid` that no key could have."""
    if header.get("typ") != TOKEN_TYPE:
        raise AuthenticationError(Reason.TOKEN_TYPE_INVALID)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise AuthenticationError(Reason.TOKEN_ALG_FORBIDDEN)
    is_text = all(isinstance(header.get(name, ""), str) for name in _TEXT_HEADERS)
    if not _FORBIDDEN_HEADERS.isdisjoint(header) or not is_text:
        raise AuthenticationError(Reason.TOKEN_HEADER_FORBIDDEN)
    key_id = header.get("kid")
    is_possible = isinstance(key_id, str) and 0 < len(key_id) <= MAX_KEY_ID_LENGTH
    return algorithm, str(key_id) if is_possible else None
