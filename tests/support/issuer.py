"""A token issuer for tests, and tokens forged in every way that an issuer would not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_address

import jwt

from sluicegate.auth import (
    ALGORITHMS,
    KeySource,
    Peer,
    SigningKey,
    TokenVerifier,
    TrustedIssuer,
    VerificationKey,
    create_signing_key,
    parse_key_set,
)
from sluicegate.auth.encoding import encode_base64url

ISSUER = "https://issuer.example"
AUDIENCE = "sluicegate.example"
NOW = 1_770_000_000  # 2026-02-02T02:40:00Z
PEER = Peer(ip_address("192.0.2.7"))


class FakeClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeKeys:
    """A key source with a set at hand; counts the refreshes asked for."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = _public(*keys)
        self.is_stale = False
        self.refreshes = 0

    def find(self, key_id: str) -> VerificationKey | None:
        return self.keys.get(key_id)

    def request_refresh(self) -> None:
        self.refreshes += 1

    def replace(self, *keys: SigningKey) -> None:
        self.keys = _public(*keys)


def _public(*keys: SigningKey) -> Mapping[str, VerificationKey]:
    return parse_key_set(json.dumps({"keys": [key.public_jwk() for key in keys]}).encode())


KEYS = {algorithm: create_signing_key(algorithm, key_id=f"key-{algorithm}") for algorithm in sorted(ALGORITHMS)}
"""One key of each algorithm, made once: RSA keys take their time."""

KEY = KEYS["ES256"]
OPERATOR_KEY = create_signing_key("ES256", key_id="key-operators")
"""Signs operators' tokens, where withdrawing the key of the others must not lock them out."""


def verifier(
    keys: KeySource | None = None,
    clock: FakeClock | None = None,
    algorithms: frozenset[str] = ALGORITHMS,
    max_lifetime_seconds: int = 3600,
) -> TokenVerifier:
    trusted = TrustedIssuer(ISSUER, AUDIENCE, algorithms, keys or FakeKeys(*KEYS.values()))
    return TokenVerifier([trusted], clock=clock or FakeClock(), max_lifetime_seconds=max_lifetime_seconds)


def header(key: SigningKey = KEY, /, **changes: object) -> dict[str, object]:
    return _changed({"alg": key.algorithm, "typ": "at+jwt", "kid": key.key_id}, changes)


def claims(**changes: object) -> dict[str, object]:
    """The claims of a good token; a change to None takes the claim away."""
    good: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "client_id": "app",
        "iat": NOW,
        "exp": NOW + 900,
        "jti": "token-1",
        "scope": "generate:gpt2-124m",
    }
    return _changed(good, changes)


def _changed(members: dict[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in {**members, **changes}.items() if value is not None}


def token(key: SigningKey = KEY, /, **changes: object) -> str:
    """A well-made token with some claims changed."""
    return forge(header(key), claims(**changes), key)


def forge(head: Mapping[str, object] | bytes, payload: Mapping[str, object] | bytes, key: SigningKey = KEY) -> str:
    """A token of any header and payload, with a good signature of `key` over them."""
    signing_input = f"{_part(head)}.{_part(payload)}"
    return f"{signing_input}.{encode_base64url(signature(signing_input, key))}"


def signature(signing_input: str, key: SigningKey = KEY) -> bytes:
    algorithm = jwt.PyJWS().get_algorithm_by_name(key.algorithm)
    return bytes(algorithm.sign(signing_input.encode("ascii"), key.private_key))


def _part(content: Mapping[str, object] | bytes) -> str:
    return encode_base64url(content if isinstance(content, bytes) else json.dumps(content).encode())
