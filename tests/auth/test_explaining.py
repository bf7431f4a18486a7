"""Rows 3 to 8 one by one: the explanation names the row that the verifier's reason belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from issuer import AUDIENCE, ISSUER, KEY, KEYS, NOW, PEER, FakeClock, claims, forge, header, token

from sluicegate.auth import (
    AuthenticationError,
    Principal,
    Reason,
    TokenVerifier,
    TrustedIssuer,
    create_signing_key,
    parse_key_set,
)
from sluicegate.auth.encoding import encode_base64url
from sluicegate.auth.explaining import TOKEN_ROWS, FixedKeys, explain_token

ROWS = [3, 4, 5, 6, 7, 8]


def verifier(*, stale: bool = False) -> TokenVerifier:
    keys = parse_key_set(json.dumps({"keys": [KEY.public_jwk()]}).encode())
    trusted = TrustedIssuer(ISSUER, AUDIENCE, frozenset({"ES256"}), FixedKeys(keys, stale))
    return TokenVerifier([trusted], clock=FakeClock())


CASES: list[tuple[int, Reason, Callable[[], str]]] = [
    (3, Reason.TOKEN_MALFORMED, lambda: token() + "="),
    (4, Reason.TOKEN_TYPE_INVALID, lambda: forge(header(typ="JWT"), claims())),
    (4, Reason.TOKEN_ALG_FORBIDDEN, lambda: forge(header(alg="none"), claims())),
    (4, Reason.TOKEN_ALG_FORBIDDEN, lambda: forge(header(alg="EdDSA"), claims())),
    (4, Reason.TOKEN_HEADER_FORBIDDEN, lambda: forge(header(jku="https://evil.example"), claims())),
    (5, Reason.TOKEN_KEY_UNKNOWN, lambda: token(KEYS["EdDSA"])),
    (6, Reason.TOKEN_SIGNATURE_INVALID, lambda: token(create_signing_key(key_id=KEY.key_id))),
    (7, Reason.TOKEN_CLAIMS_INVALID, lambda: token(sub="")),
    (7, Reason.TOKEN_ISSUER_INVALID, lambda: token(iss="https://evil.example")),
    (7, Reason.TOKEN_AUDIENCE_INVALID, lambda: token(aud="elsewhere")),
    (7, Reason.TOKEN_NOT_YET_VALID, lambda: token(nbf=NOW + 31)),
    (7, Reason.TOKEN_EXPIRED, lambda: token(iat=NOW - 900, exp=NOW)),
    (7, Reason.TOKEN_LIFETIME_EXCESSIVE, lambda: token(exp=NOW + 3601)),
    (8, Reason.TOKEN_BINDING_MISMATCH, lambda: token(cnf={"x5t#S256": encode_base64url(b"c" * 32)})),
]


@pytest.mark.parametrize(("row", "reason", "make"), CASES, ids=[f"{row} {reason}" for row, reason, _ in CASES])
def test_the_first_row_that_fails_is_shown_with_its_reason(row: int, reason: Reason, make: Callable[[], str]) -> None:
    outcomes, failure = explain_token(verifier(), make(), PEER)

    assert isinstance(failure, AuthenticationError)
    assert failure.reason is reason
    assert [outcome.row for outcome in outcomes] == ROWS
    assert [outcome.passed for outcome in outcomes] == [
        True if each < row else False if each == row else None for each in ROWS
    ]
    [denied] = [outcome.denied for outcome in outcomes if outcome.denied]
    assert (denied.reason, denied.detail) == (reason, failure.detail)


def test_stale_keys_fail_row_5() -> None:
    outcomes, failure = explain_token(verifier(stale=True), token(), PEER)

    assert isinstance(failure, AuthenticationError)
    assert failure.reason is Reason.KEYS_STALE
    assert [outcome.row for outcome in outcomes if outcome.passed is False] == [5]


def test_a_good_token_passes_every_row_and_gives_its_principal() -> None:
    outcomes, principal = explain_token(verifier(), token(), PEER)

    assert isinstance(principal, Principal)
    assert principal.client_id == "app"
    assert all(outcome.passed for outcome in outcomes)


def test_each_reason_of_the_verifier_has_one_row() -> None:
    listed = [reason for _, _, reasons in TOKEN_ROWS for reason in reasons]
    ordered = list(Reason)
    of_the_verifier = ordered[ordered.index(Reason.TOKEN_MALFORMED) : ordered.index(Reason.TOKEN_WITHDRAWN)]

    assert sorted(listed) == sorted(of_the_verifier)
