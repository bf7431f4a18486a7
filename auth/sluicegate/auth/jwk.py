"""Strict parsing of JSON Web Key Sets (RFC 7517): one bad key refuses the whole set.

A set with a symmetric or private key in it, a key for another use, or two keys under one name tells that its
publisher made a mistake; the last good set is the safer one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import rfc8785
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from sluicegate.auth.encoding import decode_base64url, encode_base64url, parse_json
from sluicegate.auth.errors import KeySetError

ALGORITHMS = frozenset({"ES256", "EdDSA", "RS256", "PS256"})
MAX_KEY_SET_BYTES = 256 * 1024
MAX_KEYS = 64
MAX_KEY_ID_LENGTH = 128

_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192
_MIN_RSA_EXPONENT = 65537
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_ALGORITHMS_OF_TYPE = {"EC": {"ES256"}, "OKP": {"EdDSA"}, "RSA": {"RS256", "PS256"}}

PublicKey = EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key and the one algorithm that it is for. Equal if they verify the same tokens."""

    key_id: str
    algorithm: str
    thumbprint: str
    """RFC 7638, SHA-256, base64url."""
    public_key: PublicKey = field(compare=False, repr=False)


def parse_key_set(raw: bytes) -> Mapping[str, VerificationKey]:
    """Keys by `kid`, in the order of the set. Raises KeySetError, which names the first bad key."""
    if len(raw) > MAX_KEY_SET_BYTES:
        raise KeySetError(f"the key set is larger than {MAX_KEY_SET_BYTES} bytes")
    try:
        document = parse_json(raw)
    except ValueError as error:
        raise KeySetError(f"the key set is not strict JSON: {error}") from error
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or not 1 <= len(members) <= MAX_KEYS:
        raise KeySetError(f"the key set must be an object whose `keys` lists 1 to {MAX_KEYS} keys")
    keys: dict[str, VerificationKey] = {}
    thumbprints: set[str] = set()
    for index, jwk in enumerate(members):
        try:
            key = parse_key(jwk)
        except KeySetError as error:
            raise KeySetError(f"keys[{index}]: {error}") from error
        if key.key_id in keys:
            raise KeySetError(f"keys[{index}]: its kid is used twice")
        if key.thumbprint in thumbprints:
            # Under two names, a withdrawn key would live on under the other.
            raise KeySetError(f"keys[{index}]: the same key stands here under two kids")
        keys[key.key_id] = key
        thumbprints.add(key.thumbprint)
    return MappingProxyType(keys)


def parse_key(jwk: object) -> VerificationKey:
    """One public signing key. Raises KeySetError for any other kind of key and any doubt about its use."""
    if not isinstance(jwk, dict):
        raise KeySetError("a key must be a JSON object")
    key_id = jwk.get("kid")
    if not isinstance(key_id, str) or not 1 <= len(key_id) <= MAX_KEY_ID_LENGTH or not key_id.isprintable():
        raise KeySetError(f"`kid` must be a printable string of 1 to {MAX_KEY_ID_LENGTH} characters")
    if found := sorted(_PRIVATE_MEMBERS & jwk.keys()):
        raise KeySetError(f"`{found[0]}` belongs to a private or symmetric key; publish public keys only")
    kind = jwk.get("kty")
    if not isinstance(kind, str) or kind not in _ALGORITHMS_OF_TYPE:
        raise KeySetError(f"`kty` must be one of {', '.join(_ALGORITHMS_OF_TYPE)}")
    algorithm = jwk.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS_OF_TYPE[kind]:
        raise KeySetError(f"`alg` of {kind} keys must be {' or '.join(sorted(_ALGORITHMS_OF_TYPE[kind]))}")
    if jwk.get("use", "sig") != "sig":
        raise KeySetError("`use` must be `sig` or absent")
    if jwk.get("key_ops", ["verify"]) != ["verify"]:
        raise KeySetError('`key_ops` must be ["verify"] or absent')
    match kind:
        case "EC":
            required, public_key = _p256_key(jwk)
        case "OKP":
            required, public_key = _ed25519_key(jwk)
        case _:
            required, public_key = _rsa_key(jwk)
    digest = hashlib.sha256(rfc8785.dumps({"kty": kind, **required})).digest()
    return VerificationKey(key_id, algorithm, encode_base64url(digest), public_key)


def _p256_key(jwk: Mapping[str, object]) -> tuple[dict[str, str], PublicKey]:
    if jwk.get("crv") != "P-256":
        raise KeySetError("`crv` of an EC key must be P-256")
    x, y = _octets(jwk, "x", length=32), _octets(jwk, "y", length=32)
    try:
        key = EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), SECP256R1()).public_key()
    except ValueError as error:
        raise KeySetError("the point is not on P-256") from error
    return {"crv": "P-256", "x": encode_base64url(x), "y": encode_base64url(y)}, key


def _ed25519_key(jwk: Mapping[str, object]) -> tuple[dict[str, str], PublicKey]:
    if jwk.get("crv") != "Ed25519":
        raise KeySetError("`crv` of an OKP key must be Ed25519")
    x = _octets(jwk, "x", length=32)
    try:
        key = Ed25519PublicKey.from_public_bytes(x)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeySetError("not an Ed25519 public key") from error
    return {"crv": "Ed25519", "x": encode_base64url(x)}, key


def _rsa_key(jwk: Mapping[str, object]) -> tuple[dict[str, str], PublicKey]:
    n, e = _octets(jwk, "n"), _octets(jwk, "e")
    modulus, exponent = int.from_bytes(n), int.from_bytes(e)
    if n[0] == 0 or e[0] == 0:
        raise KeySetError("`n` and `e` must have no leading zero octet")
    if not _MIN_RSA_BITS <= modulus.bit_length() <= _MAX_RSA_BITS:
        raise KeySetError(f"an RSA key must have {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits")
    if not _MIN_RSA_EXPONENT <= exponent < 1 << 32 or exponent % 2 == 0 or modulus % 2 == 0:
        raise KeySetError(f"an RSA exponent must be odd and at least {_MIN_RSA_EXPONENT}")
    try:
        key = RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise KeySetError("not an RSA public key") from error
    return {"e": encode_base64url(e), "n": encode_base64url(n)}, key


def _octets(jwk: Mapping[str, object], name: str, length: int | None = None) -> bytes:
    text = jwk.get(name)
    try:
        octets = decode_base64url(text) if isinstance(text, str) else b""
    except ValueError as error:
        raise KeySetError(f"`{name}` must be canonical base64url") from error
    if not octets or (length is not None and len(octets) != length):
        raise KeySetError(f"`{name}` must be base64url of {length or 'some'} octets")
    return octets
