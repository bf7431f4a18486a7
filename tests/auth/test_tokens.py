"""The verifier: what it accepts, in which order it refuses, and what it remembers."""

from __future__ import annotations

import string
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from issuer import (
    AUDIENCE,
    ISSUER,
    KEY,
    KEYS,
    NOW,
    PEER,
    FakeClock,
    FakeKeys,
    claims,
    forge,
    header,
    token,
    verifier,
)
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet

from sluicegate.auth import (
    ALGORITHMS,
    AuthenticationError,
    ConfigurationError,
    Peer,
    Reason,
    TokenVerifier,
    TrustedIssuer,
    bearer,
    create_signing_key,
)
from sluicegate.auth.encoding import encode_base64url

THUMBPRINT = encode_base64url(b"c" * 32)


def refusal(text: str, peer: Peer = PEER, checked_by: TokenVerifier | None = None) -> Reason:
    with pytest.raises(AuthenticationError) as caught:
        (checked_by or verifier()).verify(text, peer)
    return caught.value.reason


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # the name, not the algorithm
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_good_token_of_each_algorithm_is_accepted_here_and_by_a_second_library(algorithm: str) -> None:
    text = token(KEYS[algorithm])

    principal = verifier().verify(text, PEER)

    published: Any = {"keys": [key.public_jwk() for key in KEYS.values()]}
    keys = KeySet.import_key_set(published)
    second = joserfc_jwt.decode(text, keys, algorithms=sorted(ALGORITHMS))
    assert (principal.issuer, principal.client_id) == (second.claims["iss"], second.claims["client_id"])


def test_a_principal_carries_everything_that_its_token_says() -> None:
    text = token(
        scope="generate:gpt2-774m logprobs:gpt2-774m",
        acr="mfa",
        auth_time=NOW - 60,
        cnf={"x5t#S256": THUMBPRINT},
        authorization_details=[
            {"type": "another_api", "anything": 1},
            {
                "type": "model_partnership",
                "agreement": "agr-1",
                "actions": ["generate"],
                "models": ["gpt2-774m"],
                "purpose": "study",
                "limits": {"output_tokens_per_day": 500},
            },
        ],
    )

    principal = verifier().verify(text, Peer(None, THUMBPRINT))

    assert principal.scopes == {"generate:gpt2-774m", "logprobs:gpt2-774m"}
    assert (principal.acr, principal.authenticated_at, principal.key_id) == ("mfa", NOW - 60, KEY.key_id)
    [detail] = principal.authorization_details
    assert (detail.agreement, detail.purpose, dict(detail.limits)) == (
        "agr-1",
        "study",
        {"output_tokens_per_day": 500},
    )


def test_the_audience_may_be_a_list_of_one() -> None:
    assert verifier().verify(token(aud=[AUDIENCE]), PEER).subject == "alice"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], Reason.TOKEN_MISSING),
        (["Basic YWxpY2U6c2VjcmV0"], Reason.TOKEN_MISSING),
        (["Bearer"], Reason.TOKEN_MISSING),
        (["Bearer "], Reason.TOKEN_MISSING),
        ([""], Reason.TOKEN_MISSING),
        (["token-without-scheme"], Reason.TOKEN_MISSING),
        (["Bearer a", "Bearer a"], Reason.TOKEN_AMBIGUOUS),
        (["Bearer a, Bearer b"], Reason.TOKEN_AMBIGUOUS),
        ([b"Bearer \xff"], Reason.TOKEN_MALFORMED),
    ],
)
def test_row_2_wants_exactly_one_bearer_value(values: list[str | bytes], reason: Reason) -> None:
    with pytest.raises(AuthenticationError) as caught:
        bearer(values)

    assert caught.value.reason is reason


@pytest.mark.parametrize("value", ["Bearer abc", "bearer abc", "BEARER  abc", b"Bearer abc"])
def test_the_bearer_scheme_is_read_without_regard_to_case(value: str | bytes) -> None:
    assert bearer([value]) == "abc"


FAILURES: list[tuple[Reason, dict[str, object], dict[str, object]]] = [
    (Reason.TOKEN_TYPE_INVALID, {"typ": "JWT"}, {}),
    (Reason.TOKEN_ALG_FORBIDDEN, {"alg": "HS256"}, {}),
    (Reason.TOKEN_HEADER_FORBIDDEN, {"jku": "https://evil.example"}, {}),
    (Reason.TOKEN_KEY_UNKNOWN, {"kid": "unknown"}, {}),
    (Reason.TOKEN_CLAIMS_INVALID, {}, {"sub": ""}),
    (Reason.TOKEN_ISSUER_INVALID, {}, {"iss": "https://evil.example"}),
    (Reason.TOKEN_AUDIENCE_INVALID, {}, {"aud": "elsewhere"}),
    (Reason.TOKEN_NOT_YET_VALID, {}, {"nbf": NOW + 3000}),
    (Reason.TOKEN_LIFETIME_EXCESSIVE, {}, {"exp": NOW + 3601}),
    (Reason.TOKEN_BINDING_MISMATCH, {}, {"cnf": {"x5t#S256": THUMBPRINT}}),
]


@pytest.mark.parametrize("first", range(len(FAILURES)))
def test_the_first_failure_in_the_order_of_the_table_gives_the_reason(first: int) -> None:
    head, payload = header(), claims()
    for _, head_changes, payload_changes in FAILURES[first:]:
        head |= head_changes
        payload |= payload_changes

    assert refusal(forge(head, payload)) is FAILURES[first][0]


def test_a_bad_signature_comes_before_every_claim() -> None:
    other = create_signing_key(key_id=KEY.key_id)

    assert refusal(token(other)) is Reason.TOKEN_SIGNATURE_INVALID
    assert refusal(token(other, sub="", iss="https://evil.example")) is Reason.TOKEN_SIGNATURE_INVALID


def test_a_tampered_payload_has_no_good_signature() -> None:
    head, _, mark = token().split(".")
    _, payload, _ = token(scope="generate:gpt2-1558m").split(".")

    assert refusal(f"{head}.{payload}.{mark}") is Reason.TOKEN_SIGNATURE_INVALID


def test_an_algorithm_that_the_issuer_is_not_trusted_for_is_refused() -> None:
    only_es256 = verifier(algorithms=frozenset({"ES256"}))

    assert refusal(token(KEYS["RS256"]), checked_by=only_es256) is Reason.TOKEN_ALG_FORBIDDEN


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        (-31, Reason.TOKEN_NOT_YET_VALID),
        (-30, None),
        (899, None),
        (900, Reason.TOKEN_EXPIRED),
        (899.999, None),
    ],
)
def test_a_token_holds_from_30_s_before_it_was_issued_until_just_before_it_expires(
    seconds: float, reason: Reason | None
) -> None:
    at = verifier(clock=FakeClock(NOW + seconds))

    if reason is None:
        assert at.verify(token(), PEER).subject == "alice"
    else:
        assert refusal(token(), checked_by=at) is reason


def test_times_are_checked_again_on_a_remembered_token() -> None:
    clock = FakeClock()
    checked_by = verifier(clock=clock)
    text = token()
    checked_by.verify(text, PEER)

    clock.now += 900

    assert refusal(text, checked_by=checked_by) is Reason.TOKEN_EXPIRED


def test_the_binding_is_checked_again_on_a_remembered_token() -> None:
    checked_by = verifier()
    text = token(cnf={"x5t#S256": THUMBPRINT})
    checked_by.verify(text, Peer(None, THUMBPRINT))

    stolen = Peer(None, encode_base64url(b"d" * 32))

    assert refusal(text, stolen, checked_by) is Reason.TOKEN_BINDING_MISMATCH
    assert refusal(text, Peer(None), checked_by) is Reason.TOKEN_BINDING_MISMATCH


def test_a_remembered_token_is_forgotten_with_its_key() -> None:
    keys = FakeKeys(KEY)
    checked_by = verifier(keys)
    text = token()
    checked_by.verify(text, PEER)

    keys.replace(KEYS["EdDSA"])

    assert refusal(text, checked_by=checked_by) is Reason.TOKEN_KEY_UNKNOWN


def test_a_remembered_token_does_not_pass_a_new_key_of_the_same_name() -> None:
    keys = FakeKeys(KEY)
    checked_by = verifier(keys)
    text = token()
    checked_by.verify(text, PEER)

    keys.replace(create_signing_key(key_id=KEY.key_id))

    assert refusal(text, checked_by=checked_by) is Reason.TOKEN_SIGNATURE_INVALID


def test_stale_keys_verify_nothing_and_ask_for_a_refresh() -> None:
    keys = FakeKeys(KEY)
    checked_by = verifier(keys)
    text = token()
    checked_by.verify(text, PEER)

    keys.is_stale = True

    assert refusal(text, checked_by=checked_by) is Reason.KEYS_STALE
    assert keys.refreshes == 1


def test_an_unknown_key_asks_for_a_refresh() -> None:
    keys = FakeKeys(KEY)

    assert refusal(token(KEYS["EdDSA"]), checked_by=verifier(keys)) is Reason.TOKEN_KEY_UNKNOWN
    assert keys.refreshes == 1


def test_a_foreign_issuer_cannot_ask_for_refreshes() -> None:
    keys = FakeKeys(KEY)
    text = token(KEYS["EdDSA"], iss="https://evil.example")

    assert refusal(text, checked_by=verifier(keys)) is Reason.TOKEN_KEY_UNKNOWN
    assert keys.refreshes == 0


def test_the_key_of_one_issuer_does_not_sign_for_another() -> None:
    ours, theirs = FakeKeys(KEY), FakeKeys(create_signing_key(key_id=KEY.key_id))
    both = TokenVerifier(
        [
            TrustedIssuer("https://other.example", AUDIENCE, ALGORITHMS, theirs),
            TrustedIssuer(ISSUER, AUDIENCE, ALGORITHMS, ours),
        ],
        clock=FakeClock(),
    )

    assert both.verify(token(), PEER).issuer == ISSUER
    assert refusal(token(iss="https://other.example"), checked_by=both) is Reason.TOKEN_SIGNATURE_INVALID


def test_the_memory_of_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.auth.tokens._CACHED_TOKENS", 3)
    checked_by = verifier()

    for number in range(5):
        checked_by.verify(token(jti=f"token-{number}"), PEER)

    assert len(checked_by._cache) == 3


def test_a_verifier_without_issuer_audience_or_algorithms_cannot_be_built() -> None:
    keys = FakeKeys(KEY)

    with pytest.raises(ConfigurationError):
        TokenVerifier([], clock=FakeClock())
    for issuer, audience, algorithms in [
        ("", AUDIENCE, ALGORITHMS),
        (ISSUER, "", ALGORITHMS),
        (ISSUER, AUDIENCE, frozenset[str]()),
        (ISSUER, AUDIENCE, frozenset({"HS256"})),
        (ISSUER, AUDIENCE, frozenset({"none", "ES256"})),
    ]:
        with pytest.raises(ConfigurationError):
            TrustedIssuer(issuer, audience, algorithms, keys)
    twice = TrustedIssuer(ISSUER, AUDIENCE, ALGORITHMS, keys)
    with pytest.raises(ConfigurationError):
        TokenVerifier([twice, twice], clock=FakeClock())


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_refused_with_a_reason(text: str) -> None:
    assert isinstance(refusal(text), Reason)


TOKEN_CHARACTERS = string.ascii_letters + string.digits + "-_"


@given(st.lists(st.text(TOKEN_CHARACTERS), min_size=3, max_size=3).map(".".join))
def test_any_text_in_the_form_of_a_token_is_refused_with_a_reason(text: str) -> None:
    assert isinstance(refusal(text), Reason)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.sampled_from(sorted([*claims(), "nbf", "cnf", "acr", "auth_time", "authorization_details"])),
    JSON_VALUES,
)
def test_any_signed_value_of_any_claim_is_accepted_or_refused(name: str, value: object) -> None:
    with suppress(AuthenticationError):
        verifier().verify(forge(header(), {**claims(), name: value}), PEER)
