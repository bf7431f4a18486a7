"""Key sets: parsed strictly, refused whole. tests/auth/test_known_attacks.py has every kind of bad key."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from issuer import KEY, KEYS
from joserfc.jwk import JWKRegistry

from sluicegate.auth import ALGORITHMS, KeySetError, parse_key_set
from sluicegate.auth.jwk import MAX_KEY_SET_BYTES, MAX_KEYS, parse_key


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def refusal(raw: bytes) -> str:
    with pytest.raises(KeySetError) as caught:
        parse_key_set(raw)
    return str(caught.value)


def test_keys_are_found_by_their_kid_in_the_order_of_the_set() -> None:
    keys = parse_key_set(key_set(*(key.public_jwk() for key in KEYS.values())))

    assert list(keys) == [key.key_id for key in KEYS.values()]
    assert {key.algorithm for key in keys.values()} == ALGORITHMS


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_thumbprint_is_the_one_that_a_second_library_computes(algorithm: str) -> None:
    jwk = KEYS[algorithm].public_jwk()

    second = JWKRegistry.import_key({name: value for name, value in jwk.items() if isinstance(value, str)})

    assert parse_key(jwk).thumbprint == second.thumbprint()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "not strict JSON"),
        (b'{"keys": [], "keys": []}', "not strict JSON"),
        (b"[]", "an object whose `keys` lists 1 to"),
        (b"{}", "an object whose `keys` lists 1 to"),
        (b'{"keys": {}}', "an object whose `keys` lists 1 to"),
        (b'{"keys": []}', "an object whose `keys` lists 1 to"),
        (key_set(*[KEY.public_jwk()] * (MAX_KEYS + 1)), "an object whose `keys` lists 1 to"),
        (b" " * (MAX_KEY_SET_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_key_set_is_refused(raw: bytes, text: str) -> None:
    assert text in refusal(raw)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"d": "AQAB"}, "`d` belongs to a private or symmetric key"),
        ({"k": "AQAB"}, "`k` belongs to a private or symmetric key"),
        ({"kty": "oct"}, "`kty` must be one of EC, OKP, RSA"),
        ({"alg": None}, "`alg` of EC keys must be ES256"),
        ({"alg": "HS256"}, "`alg` of EC keys must be ES256"),
        ({"use": "enc"}, "`use` must be `sig` or absent"),
        ({"key_ops": ["verify", "sign"]}, '`key_ops` must be ["verify"] or absent'),
        ({"crv": "P-384"}, "`crv` of an EC key must be P-256"),
        ({"x": "AAAA"}, "`x` must be base64url of 32 octets"),
        ({"x": "A" * 42 + "="}, "`x` must be canonical base64url"),
        ({"y": None}, "`y` must be base64url of 32 octets"),
        ({"kid": "a\nb"}, "`kid` must be a printable string"),
        ({"kid": "k" * 129}, "`kid` must be a printable string"),
    ],
)
def test_a_refusal_names_the_key_and_what_is_wrong_with_it(changes: dict[str, object], text: str) -> None:
    bad = {name: value for name, value in {**KEY.public_jwk(), "kid": "bad", **changes}.items() if value is not None}

    assert refusal(key_set(KEYS["EdDSA"].public_jwk(), bad)).startswith(f"keys[1]: {text}")


@pytest.mark.parametrize(
    ("algorithm", "changes", "text"),
    [
        ("EdDSA", {"crv": "X25519"}, "`crv` of an OKP key must be Ed25519"),
        ("EdDSA", {"x": "AAAA"}, "`x` must be base64url of 32 octets"),
        ("RS256", {"e": "Aw"}, "an RSA exponent must be odd and at least 65537"),
        ("RS256", {"n": "AAAA"}, "must have no leading zero octet"),
        ("RS256", {"n": "_w"}, "an RSA key must have 2048 to 8192 bits"),
    ],
)
def test_keys_of_each_type_have_their_own_rules(algorithm: str, changes: dict[str, object], text: str) -> None:
    assert text in refusal(key_set({**KEYS[algorithm].public_jwk(), **changes}))


def test_no_kid_and_no_key_stands_twice() -> None:
    assert "its kid is used twice" in refusal(
        key_set(KEY.public_jwk(), {**KEYS["EdDSA"].public_jwk(), "kid": KEY.key_id})
    )
    assert "under two kids" in refusal(key_set(KEY.public_jwk(), {**KEY.public_jwk(), "kid": "again"}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.sampled_from(sorted(KEYS)),
    st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "kid", "use", "key_ops"]), JSON),
)
def test_any_key_is_taken_or_refused(algorithm: str, changes: dict[str, object]) -> None:
    with suppress(KeySetError):
        assert len(parse_key_set(key_set({**KEYS[algorithm].public_jwk(), **changes}))) == 1
