"""Rows 3 to 8 of the decision order, shown one by one: whether a server with these keys would believe a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluicegate.auth.errors import AuthenticationError
from sluicegate.auth.grant import CheckOutcome, Denied
from sluicegate.auth.jwk import VerificationKey
from sluicegate.auth.principal import Peer, Principal
from sluicegate.auth.reasons import Reason
from sluicegate.auth.tokens import TokenVerifier

TOKEN_ROWS: tuple[tuple[int, str, frozenset[Reason]], ...] = (
    (3, "the token is small, canonical and strict JSON", frozenset({Reason.TOKEN_MALFORMED})),
    (
        4,
        "its type, algorithm and headers are allowed",
        frozenset({Reason.TOKEN_TYPE_INVALID, Reason.TOKEN_ALG_FORBIDDEN, Reason.TOKEN_HEADER_FORBIDDEN}),
    ),
    (5, "its key is in the issuer's key set", frozenset({Reason.TOKEN_KEY_UNKNOWN, Reason.KEYS_STALE})),
    (6, "its signature verifies", frozenset({Reason.TOKEN_SIGNATURE_INVALID})),
    (
        7,
        "its claims are well-formed, of this issuer, for this audience, and in time",
        frozenset(
            {
                Reason.TOKEN_CLAIMS_INVALID,
                Reason.TOKEN_ISSUER_INVALID,
                Reason.TOKEN_AUDIENCE_INVALID,
                Reason.TOKEN_NOT_YET_VALID,
                Reason.TOKEN_EXPIRED,
                Reason.TOKEN_LIFETIME_EXCESSIVE,
            }
        ),
    ),
    (8, "the certificate that it is bound to, if any, is the caller's", frozenset({Reason.TOKEN_BINDING_MISMATCH})),
)
"""Each row with what it asks and every reason that it can give."""


@dataclass(frozen=True, slots=True)
class FixedKeys:
    """A key set that does not change, as a KeySource."""

    keys: Mapping[str, VerificationKey]
    is_stale: bool = False

    def find(self, key_id: str) -> VerificationKey | None:
        return self.keys.get(key_id)

    def request_refresh(self) -> None:
        """There is nowhere to ask."""


def explain_token(
    verifier: TokenVerifier, token: str, peer: Peer
) -> tuple[tuple[CheckOutcome, ...], Principal | AuthenticationError]:
    """Each row's outcome, and the principal if all of them passed, else the first failure."""
    try:
        principal = verifier.verify(token, peer)
    except AuthenticationError as error:
        return _outcomes(Denied(error.reason, error.detail)), error
    return _outcomes(None), principal


def _outcomes(denied: Denied | None) -> tuple[CheckOutcome, ...]:
    outcomes: list[CheckOutcome] = []
    passed: bool | None = True
    for row, check, reasons in TOKEN_ROWS:
        fails = denied is not None and denied.reason in reasons
        outcomes.append(CheckOutcome(row, check, False if fails else passed, denied if fails else None))
        passed = None if fails else passed
    return tuple(outcomes)
