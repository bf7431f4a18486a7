"""Attacks that have worked somewhere: each by its name, each refused with its reason.

Every forged token that could be is signed with the right key, so that only the check under test refuses it. A flood of
unknown keys at a key server that hangs is in test_key_endpoints.py.
"""

from __future__ import annotations

import base64
import hmac
import json
import socket
import warnings
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurve,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from issuer import (
    AUDIENCE,
    ISSUER,
    KEY,
    KEYS,
    NOW,
    PEER,
    FakeKeys,
    claims,
    forge,
    header,
    signature,
    token,
    verifier,
)
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from key_server import key_server
from policies import agreement, policy, write_policy
from signers import TRUST, signed_plan

from sluicegate.auth import (
    ALGORITHMS,
    AccessRequest,
    AuthenticationError,
    Denied,
    JwksUrl,
    KeyRing,
    KeySetError,
    Peer,
    PolicyWatch,
    Reason,
    TokenVerifier,
    Withdrawals,
    create_signing_key,
    parse_key_set,
)
from sluicegate.auth.encoding import decode_base64url, encode_base64url

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def refusal(text: str, peer: Peer = PEER, checked_by: TokenVerifier | None = None) -> Reason:
    with pytest.raises(AuthenticationError) as caught:
        (checked_by or verifier()).verify(text, peer)
    return caught.value.reason


def signed_json(payload: str | bytes) -> str:
    return forge(header(), payload.encode() if isinstance(payload, str) else payload)


def good_json(**changes: object) -> str:
    return json.dumps(claims(**changes))


# --- algorithms and keys that the token brings itself


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", " none", "none ", "non\u0435"])
def test_alg_none_in_any_spelling(name: str) -> None:
    unsigned = forge(header(alg=name), claims()).rpartition(".")[0]

    assert refusal(f"{unsigned}.AA") is Reason.TOKEN_ALG_FORBIDDEN
    assert refusal(f"{unsigned}.") is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("value", [None, 1, True, ["ES256"], {"ES256": 1}, "es256", "ES256K", "ES384", "HS256"])
def test_an_alg_that_is_absent_of_another_type_or_not_ours(value: object) -> None:
    assert refusal(forge(header(alg=value), claims())) is Reason.TOKEN_ALG_FORBIDDEN


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("form", ["pem", "der", "jwk"])
def test_hs256_with_the_public_key_as_the_secret(algorithm: str, form: str) -> None:
    key = KEYS[algorithm]
    public_key = key.private_key.public_key()
    secret = {
        "pem": public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(key.public_jwk()).encode(),
    }[form]
    signing_input = forge(header(key, alg="HS256"), claims()).rpartition(".")[0]
    forged = f"{signing_input}.{encode_base64url(hmac.digest(secret, signing_input.encode(), 'sha256'))}"

    assert refusal(forged) is Reason.TOKEN_ALG_FORBIDDEN


def test_another_algorithm_of_the_same_key_type() -> None:
    assert refusal(forge(header(KEYS["RS256"], alg="PS256"), claims())) is Reason.TOKEN_ALG_FORBIDDEN


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "crit", "b64"])
def test_a_header_that_brings_its_own_key_or_changes_the_reading(name: str) -> None:
    values: list[object] = [
        KEY.public_jwk(),
        "https://evil.example/jwks",
        "http://127.0.0.1/",
        ["MIIB"],
        [],
        False,
        True,
        "",
        ["exp"],
    ]

    for value in values:
        assert refusal(forge(header(**{name: value}), claims())) is Reason.TOKEN_HEADER_FORBIDDEN
    assert refusal(forge({**header(), name: None}, claims())) is Reason.TOKEN_HEADER_FORBIDDEN


@pytest.mark.parametrize("value", [None, 0, True, [], {}, ["JWT"]])
@pytest.mark.parametrize("name", ["cty", "x5t", "x5t#S256"])
def test_a_header_that_is_no_text_where_another_library_would_refuse_it(name: str, value: object) -> None:
    assert refusal(forge({**header(), name: value}, claims())) is Reason.TOKEN_HEADER_FORBIDDEN
    assert verifier().verify(forge({**header(), name: "text"}, claims()), PEER).subject == "alice"


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
async def test_a_key_that_the_token_brings_is_not_looked_up_anywhere(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = create_signing_key(key_id="evil")
    connections: list[object] = []
    connect = socket.socket.connect

    def counted(self: socket.socket, address: Any) -> None:
        connections.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", counted)
    async with key_server() as server:
        server.publish(KEY)
        ring = KeyRing(JwksUrl(f"{server.url}/jwks"), on_failure=lambda _error: None)
        await ring.refresh()
        own = len(connections)
        server.publish(KEY, evil)
        brought: dict[str, object] = {
            "jwk": evil.public_jwk(),
            "jku": f"{server.url}/jwks",
            "x5u": f"{server.url}/certificate.pem",
            "x5c": [base64.b64encode(b"a certificate").decode()],
        }

        verdicts = {
            refusal(forge(header(evil, **{name: brought[name], "kid": kid}), claims(), evil), checked_by=verifier(ring))
            for kid in ("evil", KEY.key_id, f"{server.url}/jwks")
        }
        await ring.refresh_if_due()  # nor afterwards

        assert verdicts == {Reason.TOKEN_HEADER_FORBIDDEN}
        assert own == 1  # what is counted here includes the ring's own questions
        assert (connections[own:], server.asked) == ([], ["/jwks"])


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "key-ES256\x00",
        "\x00",
        "' OR 1=1 --",
        "|ls",
        "KEY-ES256",
        " key-ES256",
        "key-ES256 ",
    ],
)
def test_a_kid_that_reaches_for_something_else(kid: str) -> None:
    assert refusal(forge(header(kid=kid), claims())) is Reason.TOKEN_KEY_UNKNOWN


@pytest.mark.parametrize("kid", [None, "", [], ["key-ES256"], {"a": 1}, 0, 1, True, "k" * 129])
def test_a_kid_that_no_key_can_have_asks_for_no_refresh(kid: object) -> None:
    keys = FakeKeys(KEY)

    assert refusal(forge(header(kid=kid), claims()), checked_by=verifier(keys)) is Reason.TOKEN_KEY_UNKNOWN
    assert keys.refreshes == 0


def test_a_kid_of_64_kilobytes() -> None:
    assert refusal(forge(header(kid="k" * 65536), claims())) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize(
    "typ", [None, "JWT", "AT+JWT", "at+JWT", "application/at+jwt", "at+jwt ", "id+jwt", "", 1, ["at+jwt"]]
)
def test_a_token_of_another_type_passed_off_as_an_access_token(typ: object) -> None:
    assert refusal(forge(header(typ=typ), claims())) is Reason.TOKEN_TYPE_INVALID


# --- claims


TIME_CLAIMS = ["exp", "iat", "nbf", "auth_time"]
NO_TIMES: list[object] = [
    str(NOW),
    f" {NOW}",
    "\uff11\uff17\uff17\uff10\uff10\uff10\uff10\uff19\uff10\uff10",
    "",
    float(NOW),
    NOW + 0.5,
    True,
    False,
    -1,
    10**18,
    1e300,
    [],
    [NOW],
    {},
]


@pytest.mark.parametrize("value", NO_TIMES)
@pytest.mark.parametrize("name", TIME_CLAIMS)
def test_a_time_that_is_no_whole_number_of_seconds(name: str, value: object) -> None:
    assert refusal(token(**{name: value})) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("name", TIME_CLAIMS)
def test_a_time_that_is_null(name: str) -> None:
    assert refusal(forge(header(), {**claims(), name: None})) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_time_that_is_no_json(number: str) -> None:
    assert refusal(signed_json(good_json().replace(str(NOW + 900), number))) is Reason.TOKEN_MALFORMED


def test_a_number_of_thousands_of_digits() -> None:
    assert refusal(signed_json(good_json().replace(str(NOW + 900), "9" * 4400))) is Reason.TOKEN_MALFORMED


def test_a_token_that_expires_before_it_was_issued() -> None:
    assert refusal(token(exp=NOW - 1, iat=NOW)) is Reason.TOKEN_CLAIMS_INVALID


def test_an_authentication_from_the_future() -> None:
    assert refusal(token(auth_time=NOW + 31)) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "client_id", "iat", "exp", "jti", "scope"])
def test_a_claim_that_is_left_out(name: str) -> None:
    assert refusal(token(**{name: None})) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("value", ["", 0, True, None, [], {}, ["alice"], "a" * 256, "a\x00b", "a\nb", "a\u202eb"])
@pytest.mark.parametrize("name", ["iss", "sub", "client_id", "jti"])
def test_a_name_that_is_empty_of_another_type_or_not_printable(name: str, value: object) -> None:
    assert refusal(forge(header(), {**claims(), name: value})) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize("name", ["exp", "sub", "scope", "aud"])
def test_a_claim_that_stands_twice(name: str) -> None:
    twice = good_json()[:-1] + f', "{name}": {json.dumps(claims()[name])}}}'

    assert refusal(signed_json(twice)) is Reason.TOKEN_MALFORMED


def test_a_claim_that_stands_twice_under_an_escaped_name() -> None:
    assert refusal(signed_json(good_json()[:-1] + ', "e\\u0078p": 9999999999}')) is Reason.TOKEN_MALFORMED


def test_a_header_that_stands_twice() -> None:
    twice = b'{"alg":"ES256","typ":"at+jwt","kid":"key-ES256","alg":"none"}'

    assert refusal(forge(twice, claims())) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize(
    "issuer",
    [
        ISSUER + "/",
        ISSUER.upper(),
        "http://issuer.example",
        ISSUER + ".",
        "https://issuer.example:443",
        ISSUER[:-1],
        ISSUER + "@evil.example",
        " " + ISSUER,
        "https://\u0456ssuer.example",
    ],
)
def test_an_issuer_that_nearly_is_ours(issuer: str) -> None:
    assert refusal(token(iss=issuer)) is Reason.TOKEN_ISSUER_INVALID


@pytest.mark.parametrize("audience", [AUDIENCE.upper(), AUDIENCE + "/", AUDIENCE[:-1], " " + AUDIENCE, "*", ISSUER])
def test_an_audience_that_nearly_is_ours(audience: str) -> None:
    assert refusal(token(aud=audience)) is Reason.TOKEN_AUDIENCE_INVALID
    assert refusal(token(aud=[audience])) is Reason.TOKEN_AUDIENCE_INVALID


@pytest.mark.parametrize(
    "audience", [[], [AUDIENCE, "other"], [AUDIENCE, AUDIENCE], [[AUDIENCE]], {AUDIENCE: 1}, True, 1, [None]]
)
def test_an_audience_that_is_not_one_name(audience: object) -> None:
    assert refusal(token(aud=audience)) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    "confirmation",
    [
        {},
        None,
        "x",
        [],
        {"x5t#S256": ""},
        {"x5t#S256": "A" * 42},
        {"x5t#S256": "A" * 43 + "="},
        {"x5t#S256": "A" * 42 + "B"},
        {"x5t#S256": 1},
        {"jkt": "A" * 43},
        {"jwk": {}},
        {"x5t#S256": "A" * 43, "jkt": "A" * 43},
    ],
)
def test_a_confirmation_that_cannot_be_checked_is_not_taken_for_one_that_was(confirmation: object) -> None:
    assert refusal(forge(header(), {**claims(), "cnf": confirmation})) is Reason.TOKEN_CLAIMS_INVALID


def test_a_bound_token_replayed_with_another_certificate() -> None:
    ours, theirs = encode_base64url(b"a" * 32), encode_base64url(b"b" * 32)
    checked_by = verifier()
    bound = token(cnf={"x5t#S256": ours})
    checked_by.verify(bound, Peer(None, ours))

    assert refusal(bound, Peer(None, theirs), checked_by) is Reason.TOKEN_BINDING_MISMATCH
    assert refusal(bound, Peer(ip_address("192.0.2.7")), checked_by) is Reason.TOKEN_BINDING_MISMATCH


# --- other spellings of one token


def test_padding_after_any_part() -> None:
    head, payload, mark = token().split(".")

    for padded in [
        f"{head}=.{payload}.{mark}",
        f"{head}.{payload}==.{mark}",
        f"{head}.{payload}.{mark}=",
        f"{head}.{payload}.{mark}==",
    ]:
        assert refusal(padded) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("junk", [" ", "\n", "\r\n", "\t", "\x00", "+", "/", "!", ".", "é", "\ufeff"])
def test_characters_outside_the_alphabet(junk: str) -> None:
    good = token()

    for spoiled in [junk + good, good + junk, good[:10] + junk + good[10:], good.replace(".", junk + ".", 1)]:
        assert refusal(spoiled) is Reason.TOKEN_MALFORMED


def test_the_other_base64_alphabet() -> None:
    checked_by = verifier()
    marked = next(
        text
        for text in (token(jti=f"t{number}") for number in range(200))
        if {"-", "_"} <= set(text.rpartition(".")[2])
    )
    checked_by.verify(marked, PEER)
    head, payload, mark = marked.split(".")

    assert refusal(f"{head}.{payload}.{mark.translate(str.maketrans('-_', '+/'))}") is Reason.TOKEN_MALFORMED


def test_trailing_bits_that_decode_to_the_same_signature() -> None:
    good = token()
    position = ALPHABET.index(good[-1])

    for other in ALPHABET[position + 1 : position + 16 - position % 16]:
        spoiled = good[:-1] + other
        assert base64.urlsafe_b64decode(spoiled.split(".")[2] + "==") == decode_base64url(good.split(".")[2])
        assert refusal(spoiled) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("parts", [0, 1, 2, 4, 5])
def test_a_token_of_another_number_of_parts(parts: int) -> None:
    assert refusal(".".join(["e30"] * parts)) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_claims_in_another_encoding(encoding: str) -> None:
    payload = good_json(sub="älice").encode(encoding)

    assert refusal(signed_json(payload)) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_a_header_in_another_encoding(encoding: str) -> None:
    assert refusal(forge(json.dumps(header()).encode(encoding), claims())) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("raw", [b'"\xc3\x28"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"\\ud800"', b'"\\udc00\\ud800"'])
def test_text_that_is_no_unicode(raw: bytes) -> None:
    assert refusal(signed_json(good_json().encode().replace(b'"alice"', raw))) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("depth", [9, 100, 2000])
def test_deep_nesting(depth: int) -> None:
    nested = good_json()[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"

    assert refusal(signed_json(nested)) is Reason.TOKEN_MALFORMED


def test_five_megabytes() -> None:
    assert refusal(token(filler="x" * 5_000_000)) is Reason.TOKEN_MALFORMED
    assert refusal("a" * 5_000_000) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"1", b'"x"', b"{}x", b"{} {}", b"{'a':1}", b"{,}"])
def test_claims_that_are_no_json_object(payload: bytes) -> None:
    assert refusal(signed_json(payload)) is Reason.TOKEN_MALFORMED


def test_an_empty_signature_and_one_of_zeros() -> None:
    signing_input = token().rpartition(".")[0]

    assert refusal(f"{signing_input}.") is Reason.TOKEN_MALFORMED
    assert refusal(f"{signing_input}.{encode_base64url(bytes(64))}") is Reason.TOKEN_SIGNATURE_INVALID


def test_a_signature_in_der_instead_of_the_raw_form() -> None:
    raw = signature(token().rpartition(".")[0])
    r, s = raw[:32], raw[32:]
    integers = b"".join(b"\x02\x21\x00" + part for part in (r, s))
    der = b"\x30" + bytes([len(integers)]) + integers

    assert refusal(f"{token().rpartition('.')[0]}.{encode_base64url(der)}") is Reason.TOKEN_SIGNATURE_INVALID


def test_the_mirror_of_an_ecdsa_signature_is_the_same_token_to_those_who_withdraw_it() -> None:
    # Whoever has a token can make the other form of its signature; RFC 7518 forbids neither.
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    good = token()
    signing_input, _, mark = good.rpartition(".")
    raw = decode_base64url(mark)
    mirrored = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    other = f"{signing_input}.{encode_base64url(mirrored)}"
    checked_by = verifier()

    principals = [checked_by.verify(text, PEER) for text in (good, other)]

    withdrawn = policy().under(Withdrawals(tokens=frozenset({(ISSUER, "token-1")})))
    assert other != good
    assert [withdrawn.check_caller(each) for each in principals] == [Denied(Reason.TOKEN_WITHDRAWN)] * 2


def test_an_ed25519_signature_with_the_order_of_the_group_added() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    signing_input, _, mark = token(KEYS["EdDSA"]).rpartition(".")
    raw = decode_base64url(mark)
    other = raw[:32] + (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")

    assert refusal(f"{signing_input}.{encode_base64url(other)}") is Reason.TOKEN_SIGNATURE_INVALID


# --- scopes


@pytest.mark.parametrize(
    "scope",
    [
        "",
        " ",
        " a",
        "a ",
        "a  b",
        "a\tb",
        "a\nb",
        "a\u00a0b",
        "a\\b",
        'a"b',
        "ä:b",
        ["generate:gpt2-124m"],
        {"a": 1},
        1,
        True,
        " ".join(f"s{number}" for number in range(33)),
        "a" * 513,
    ],
)
def test_a_scope_claim_that_is_not_a_list_of_scopes(scope: object) -> None:
    assert refusal(token(scope=scope)) is Reason.TOKEN_CLAIMS_INVALID


def test_32_scopes_are_not_too_many() -> None:
    names = [f"s{number}" for number in range(32)]

    assert verifier().verify(token(scope=" ".join(names)), PEER).scopes == set(names)


@pytest.mark.parametrize(
    "scope",
    [
        "GENERATE:gpt2-124m",
        "generate:GPT2-124M",
        "generate:*",
        "*",
        "*:*",
        "generate",
        "generate:",
        "generate:gpt2-1558m",
        "generate:gpt2-124",
        "generate:gpt2-124m-instruct",
        "generate:{model}",
        "score:gpt2-124m",
        "generate:gpt2-124m,x",
        "generate;gpt2-124m",
        "authenticated",
    ],
)
def test_a_scope_that_nearly_is_the_one_needed(scope: str) -> None:
    principal = verifier().verify(token(scope=scope), PEER)

    outcome = policy().decide(principal, AccessRequest("generate", "gpt2-124m"), PEER, NOW)

    assert outcome == Denied(Reason.SCOPE_MISSING, {"required_scope": "generate:gpt2-124m"})


# --- authorization details that would widen


DETAIL: dict[str, Any] = {"type": "model_partnership", "agreement": "agr-example-lab"}
LENIENT = agreement(networks=[], token={}, purposes=[], output={})


@pytest.mark.parametrize(
    "details",
    [
        {},
        "x",
        1,
        [1],
        [None],
        ["x"],
        [[]],
        [{}],
        [{"type": 1}],
        [DETAIL] * 9,
        [{"type": "model_partnership"}],
        [{**DETAIL, "agreement": ""}],
        [{**DETAIL, "agreement": ["agr-example-lab"]}],
        [{**DETAIL, "models": "gpt2-774m"}],
        [{**DETAIL, "models": []}],
        [{**DETAIL, "models": [1]}],
        [{**DETAIL, "models": None}],
        [{**DETAIL, "actions": "generate"}],
        [{**DETAIL, "purpose": ["a"]}],
        [{**DETAIL, "limits": {"output_tokens_per_day": "1"}}],
        [{**DETAIL, "limits": {"output_tokens_per_day": True}}],
        [{**DETAIL, "limits": {"output_tokens_per_day": 0}}],
        [{**DETAIL, "limits": {"output_tokens_per_day": -1}}],
        [{**DETAIL, "limits": {"words_per_day": 1}}],
        [{**DETAIL, "limits": []}],
        [{**DETAIL, "locations": ["x"]}],
    ],
)
def test_authorization_details_that_cannot_be_kept_to(details: object) -> None:
    assert refusal(token(authorization_details=details)) is Reason.TOKEN_CLAIMS_INVALID


def outcome_of(detail: dict[str, Any], model: str, action: str = "generate", client: str = "lab-app") -> object:
    scope = f"generate:{model} score:{model} logprobs:{model}"
    text = token(client_id=client, scope=scope, authorization_details=[{**DETAIL, **detail}])
    principal = verifier().verify(text, PEER)
    return policy(None, LENIENT).decide(principal, AccessRequest(action, model), PEER, NOW)


def test_a_token_cannot_add_a_model_to_its_agreement() -> None:
    outcome = outcome_of({"models": ["gpt2-774m", "gpt2-1558m"]}, "gpt2-1558m")

    assert outcome == Denied(Reason.MODEL_NOT_RELEASED, {"stage": "s2"})


def test_a_token_cannot_add_an_action_to_its_agreement() -> None:
    only_generate = {**LENIENT, "actions": ["generate"]}
    text = token(
        client_id="lab-app",
        scope="score:gpt2-774m logprobs:gpt2-774m",
        authorization_details=[{**DETAIL, "actions": ["generate", "score"]}],
    )

    outcome = policy(None, only_generate).decide(
        verifier().verify(text, PEER), AccessRequest("score", "gpt2-774m"), PEER, NOW
    )

    assert isinstance(outcome, Denied)
    assert outcome.reason is Reason.ACTION_NOT_PERMITTED


def test_a_token_cannot_raise_the_limits_of_its_agreement() -> None:
    outcome = outcome_of({"limits": {"output_tokens_per_call": 10**9}}, "gpt2-774m")

    assert not isinstance(outcome, Denied)
    assert getattr(outcome, "max_output_tokens", None) == 512


def test_a_token_that_names_the_agreement_of_another() -> None:
    outcome = outcome_of({}, "gpt2-774m", client="mallory-app")

    assert isinstance(outcome, Denied)
    assert outcome.reason is Reason.AGREEMENT_CLIENT_MISMATCH


def test_the_same_client_name_at_another_issuer_is_another_client() -> None:
    elsewhere = {**LENIENT, "clients": [{"issuer": "https://other.example", "client": "lab-app"}]}
    text = token(client_id="lab-app", scope="generate:gpt2-774m")

    outcome = policy(None, elsewhere).decide(
        verifier().verify(text, PEER), AccessRequest("generate", "gpt2-774m"), PEER, NOW
    )

    assert outcome == Denied(Reason.MODEL_NOT_RELEASED, {"stage": "s2"})


# --- key sets


def ec_jwk(curve: EllipticCurve, **changes: object) -> dict[str, object]:
    numbers = generate_private_key(curve).public_key().public_numbers()
    size = (curve.key_size + 7) // 8
    x, y = (encode_base64url(number.to_bytes(size)) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k", "alg": "ES256", **changes}


def rsa_jwk(bits: int = 2048, exponent: int = 65537) -> dict[str, object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers = generate_rsa_key(public_exponent=exponent, key_size=bits).public_key().public_numbers()
    n, e = (encode_base64url(number.to_bytes((number.bit_length() + 7) // 8)) for number in (numbers.n, numbers.e))
    return {"kty": "RSA", "n": n, "e": e, "kid": "k", "alg": "RS256"}


def without(jwk: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in jwk.items() if key != name}


GOOD: dict[str, object] = KEY.public_jwk()
BAD_KEYS: dict[str, Callable[[], object]] = {
    "symmetric": lambda: {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"},
    "symmetric passed off as public": lambda: {**ec_jwk(SECP256R1()), "k": "c2VjcmV0"},
    "private": KEYS["EdDSA"].private_jwk,
    "private rsa": lambda: {**rsa_jwk(), "d": "AQAB"},
    "for encryption": lambda: ec_jwk(SECP256R1(), use="enc"),
    "for another operation": lambda: ec_jwk(SECP256R1(), key_ops=["encrypt"]),
    "for too many operations": lambda: ec_jwk(SECP256R1(), key_ops=["verify", "encrypt"]),
    "without alg": lambda: without(ec_jwk(SECP256R1()), "alg"),
    "with the alg of another type": lambda: ec_jwk(SECP256R1(), alg="RS256"),
    "with alg none": lambda: ec_jwk(SECP256R1(), alg="none"),
    "without kid": lambda: without(ec_jwk(SECP256R1()), "kid"),
    "with an empty kid": lambda: ec_jwk(SECP256R1(), kid=""),
    "with a kid that is no string": lambda: ec_jwk(SECP256R1(), kid=["k"]),
    "with a kid that stands twice": lambda: ec_jwk(SECP256R1(), kid=KEY.key_id),
    "that stands under two kids": lambda: {**GOOD, "kid": "again"},
    "of another curve": lambda: ec_jwk(SECP384R1(), crv="P-384", alg="ES256"),
    "of another curve passed off as P-256": lambda: ec_jwk(SECP384R1()),
    "with a point that is not on the curve": lambda: ec_jwk(SECP256R1(), y=encode_base64url(bytes(31) + b"\x01")),
    "with coordinates that are padded": lambda: ec_jwk(SECP256R1(), x="A" * 43 + "="),
    "of 1024 bits": lambda: rsa_jwk(1024),
    "with exponent 3": lambda: rsa_jwk(exponent=3),
    "with an even modulus": lambda: {**rsa_jwk(), "n": encode_base64url(b"\x80" + bytes(255))},
    "of 16384 bits": lambda: {**rsa_jwk(), "n": encode_base64url(b"\xff" * 2048)},
    "that is no object": lambda: ["EC"],
}


@pytest.mark.parametrize("kind", BAD_KEYS)
def test_one_bad_key_refuses_the_whole_set(kind: str) -> None:
    with pytest.raises(KeySetError, match=r"keys\[1\]"):
        parse_key_set(json.dumps({"keys": [GOOD, BAD_KEYS[kind]()]}).encode())


# --- signed policies put back or bent


async def reload(directory: Path, *revisions: dict[str, Any]) -> tuple[str, list[str]]:
    """The stage that a running server is at after these revisions in turn, and what it refused."""
    first, *others = revisions
    refused: list[str] = []

    async def no_time(_seconds: float) -> None:
        return

    watch = PolicyWatch(
        write_policy(directory, first),
        TRUST,
        on_change=lambda _policy: None,
        on_failure=lambda problems: refused.extend(str(problem) for problem in problems),
        sleep=no_time,
    )
    for revision in others:
        write_policy(directory, revision)
        await watch.check()
    return watch.current.stage.id, refused


OPENS_WIDER = (
    "release.yaml: active: opens wider than the revision in force; add a signed transition below those recorded so far"
)


async def test_an_old_signed_revision_that_is_put_back(tmp_path: Path) -> None:
    wide = signed_plan(("s1", "s2"), ("s2", "s3"))
    closed = {**wide, "active": "s1"}

    assert await reload(tmp_path, wide, closed, wide) == ("s1", [OPENS_WIDER])


async def test_transitions_that_are_deleted_and_put_back(tmp_path: Path) -> None:
    wide, narrow = signed_plan(("s1", "s2"), ("s2", "s3")), signed_plan()

    assert await reload(tmp_path, wide, narrow, signed_plan(("s1", "s2")), wide) == ("s1", [OPENS_WIDER] * 2)


async def test_the_widest_stage_passed_off_as_the_first_of_a_new_deployment(tmp_path: Path) -> None:
    plan = signed_plan(("s1", "s2"))
    bent = {**plan, "stages": plan["stages"][::-1], "transitions": [], "active": "s3"}

    assert await reload(tmp_path, plan, bent) == ("s2", [OPENS_WIDER])


async def test_the_first_stage_widened_in_place(tmp_path: Path) -> None:
    plan, bent = signed_plan(), signed_plan()
    bent["stages"][0]["open"]["gpt2-next"] = "public"
    watched = await reload(tmp_path, plan, bent)

    assert watched == ("s1", [OPENS_WIDER])


async def test_an_unsigned_closing_transition_is_no_new_signature(tmp_path: Path) -> None:
    wide = signed_plan(("s1", "s2"), ("s2", "s3"))
    step = {"from": "s3", "to": "s2", "at": "2026-03-01T00:00:00Z"}
    bent = {**wide, "transitions": [*wide["transitions"], step], "active": "s2"}

    assert await reload(tmp_path, wide, {**wide, "active": "s1"}, bent) == ("s1", [OPENS_WIDER])


async def test_what_was_closed_opens_again_with_new_signatures(tmp_path: Path) -> None:
    wide = signed_plan(("s1", "s2"))
    again = signed_plan(("s1", "s2"), ("s2", "s2"))

    assert await reload(tmp_path, wide, {**wide, "active": "s1"}, again) == ("s2", [])


# --- two libraries


PUBLISHED: Any = {"keys": [key.public_jwk() for key in KEYS.values()]}
SECOND_KEYS = KeySet.import_key_set(PUBLISHED)
ODD: list[object] = [
    None,
    "",
    0,
    1.5,
    True,
    [],
    {},
    "x",
    NOW,
    str(NOW),
    [AUDIENCE],
    AUDIENCE,
    ["a", AUDIENCE],
    "at+jwt",
]
CLAIM_NAMES = ["iss", "aud", "sub", "client_id", "iat", "exp", "nbf", "jti", "scope", "acr", "auth_time", "extra"]


@st.composite
def sent(draw: st.DrawFn) -> str:
    """Tokens that are good or nearly so: odd claims and headers, well signed; then perhaps one character changed."""
    key = KEYS[draw(st.sampled_from(sorted(KEYS)))]
    odd = st.sampled_from(ODD)
    payload = claims(**draw(st.dictionaries(st.sampled_from(CLAIM_NAMES), odd, max_size=2)))
    names = st.sampled_from(["alg", "typ", "kid", "cty", "x5t", "x5t#S256", "crit", "jwk", "extra"])
    text = forge({**header(key), **draw(st.dictionaries(names, odd, max_size=1))}, payload, key)
    if draw(st.booleans()):
        return text
    place = draw(st.integers(0, len(text) - 1))
    return text[:place] + draw(st.sampled_from(f"{ALPHABET}.=+/ ")) + text[place + 1 :]


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # the name, not the algorithm
@given(sent())
def test_what_is_accepted_is_accepted_by_a_second_library_with_the_same_claims(text: str) -> None:
    try:
        principal = verifier().verify(text, PEER)
    except AuthenticationError:
        return

    unknown_headers_pass = JWSRegistry(algorithms=sorted(ALGORITHMS), strict_check_header=False)  # as RFC 7515 asks
    second = joserfc_jwt.decode(text, SECOND_KEYS, registry=unknown_headers_pass)
    joserfc_jwt.JWTClaimsRegistry(
        now=lambda: NOW,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
    ).validate(second.claims)
    told = {name: second.claims[name] for name in ("iss", "sub", "client_id", "jti", "iat", "exp")}
    assert second.header["kid"] == principal.key_id
    assert set(second.claims["scope"].split(" ")) == principal.scopes
    assert told == {
        "iss": principal.issuer,
        "sub": principal.subject,
        "client_id": principal.client_id,
        "jti": principal.token_id,
        "iat": principal.issued_at,
        "exp": principal.expires_at,
    }


# --- what the wrapper is there for


@pytest.mark.parametrize(
    "forged",
    [
        token(exp=str(NOW + 900)),
        token(nbf=True),
        signed_json(good_json()[:-1] + f', "exp": {NOW + 900}}}'),
        forge(header(typ="JWT"), claims()),
        token(sub="", jti=""),
        signed_json(good_json().encode("utf-16")),
        token() + "==",
        token(filler="x" * 5_000_000),
    ],
    ids=["exp string", "nbf true", "duplicate", "typ", "empty", "utf-16", "padding", "5 MB"],
)
def test_pyjwt_alone_would_accept_what_the_verifier_refuses(forged: str) -> None:
    public_key = KEY.private_key.public_key()

    accepted = jwt.decode(
        forged,
        public_key,
        algorithms=["ES256"],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )

    assert accepted["iss"] == ISSUER
    assert refusal(forged) in (Reason.TOKEN_MALFORMED, Reason.TOKEN_TYPE_INVALID, Reason.TOKEN_CLAIMS_INVALID)
