"""The issuer of our own, for development and the demo. In production an OIDC provider issues the tokens."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

import jwt
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key

from sluicegate.auth import scopes as scope_rules
from sluicegate.auth.encoding import encode_base64url, parse_json
from sluicegate.auth.errors import IssuingError, KeySetError
from sluicegate.auth.jwk import ALGORITHMS, MAX_KEY_SET_BYTES, parse_key, parse_key_set
from sluicegate.auth.tokens import MAX_LIFETIME_SECONDS, TOKEN_TYPE

DEFAULT_ALGORITHM = "ES256"
RSA_BITS = 3072

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey
Jwk = dict[str, object]

_PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its name and its one algorithm."""

    key_id: str
    algorithm: str
    private_key: PrivateKey = field(repr=False)

    def public_jwk(self) -> Jwk:
        jwk = self.private_jwk()
        public: Jwk = {name: jwk[name] for name in _PUBLIC_MEMBERS if name in jwk}
        return {**public, "kid": self.key_id, "alg": self.algorithm, "use": "sig"}

    def private_jwk(self) -> Jwk:
        handler = jwt.PyJWS(algorithms=[self.algorithm]).get_algorithm_by_name(self.algorithm)
        jwk: Jwk = handler.to_jwk(self.private_key, as_dict=True)
        return {**jwk, "kid": self.key_id, "alg": self.algorithm, "key_ops": ["sign"]}


def create_signing_key(algorithm: str = DEFAULT_ALGORITHM, *, key_id: str | None = None) -> SigningKey:
    """A new key; its name is random unless given. Raises IssuingError for another algorithm."""
    private_key: PrivateKey
    match algorithm:
        case "ES256":
            private_key = generate_private_key(SECP256R1())
        case "EdDSA":
            private_key = Ed25519PrivateKey.generate()
        case "RS256" | "PS256":
            private_key = generate_rsa_key(public_exponent=65537, key_size=RSA_BITS)
        case _:
            raise IssuingError(f"{algorithm!r} is none of {', '.join(sorted(ALGORITHMS))}")
    return SigningKey(key_id or encode_base64url(secrets.token_bytes(9)), algorithm, private_key)


def write_signing_key(path: Path, key: SigningKey) -> None:
    """Write the private JWK, readable by its owner only. Raises IssuingError rather than replace a file."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise IssuingError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(rfc8785.dumps(key.private_jwk()) + b"\n")  # type: ignore[arg-type]


def read_signing_key(path: Path) -> SigningKey:
    """The key that `write_signing_key` wrote. Raises IssuingError, also if others could read the file."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise IssuingError(f"{path} can be read by others; run: chmod 600 {path}")
            jwk = parse_json(file.read(MAX_KEY_SET_BYTES))
    except OSError as error:
        raise IssuingError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise IssuingError(f"{path} is no JSON Web Key") from error
    if not isinstance(jwk, dict):
        raise IssuingError(f"{path} is no JSON Web Key")
    try:
        public = parse_key({name: jwk[name] for name in (*_PUBLIC_MEMBERS, "kid", "alg") if name in jwk})
        private_key = jwt.PyJWK(jwk, public.algorithm).key
    except (KeySetError, jwt.PyJWTError, ValueError) as error:
        raise IssuingError(f"{path} is no private key of ours") from error
    if not isinstance(private_key, EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey):
        raise IssuingError(f"{path} holds a public key; a private one signs tokens")
    return SigningKey(public.key_id, public.algorithm, private_key)


def add_to_key_set(path: Path, key: SigningKey) -> None:
    """Put the public key in front of a JWKS file, made if need be; readers never see it half-written.

    Raises IssuingError if the set is bad or would become so.
    """
    jwks: list[object] = [key.public_jwk()]
    try:
        if path.exists():
            raw = path.read_bytes()
            parse_key_set(raw)
            document = parse_json(raw)
            jwks += document["keys"] if isinstance(document, dict) else []
        content = rfc8785.dumps({"keys": jwks}) + b"\n"  # type: ignore[dict-item]
        parse_key_set(content)
        _replace(path, content)
    except KeySetError as error:
        raise IssuingError(f"{path}: {error}") from error
    except OSError as error:
        raise IssuingError(f"{path}: {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        new = Path(file.name)
        try:
            file.write(content)
            file.close()
            new.chmod(0o644)
            new.replace(path)
        except OSError:
            new.unlink()
            raise


def issue_token(
    key: SigningKey,
    *,
    issuer: str,
    audience: str,
    subject: str,
    client_id: str,
    scopes: Sequence[str],
    now: float,
    lifetime_seconds: int = 900,
    authorization_details: Sequence[Mapping[str, object]] = (),
    authenticated_at: int | None = None,
    acr: str | None = None,
    certificate_thumbprint: str | None = None,
    token_id: str | None = None,
) -> str:
    """A signed RFC 9068 access token. Raises IssuingError for scopes or a lifetime that would be refused."""
    try:
        scope_rules.parse(" ".join(scopes))
    except ValueError as error:
        raise IssuingError(str(error)) from error
    if not 1 <= lifetime_seconds <= MAX_LIFETIME_SECONDS:
        raise IssuingError(f"a token lives 1 to {MAX_LIFETIME_SECONDS} seconds")
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "client_id": client_id,
        "iat": int(now),
        "exp": int(now) + lifetime_seconds,
        "jti": token_id or encode_base64url(secrets.token_bytes(16)),
        "scope": " ".join(scopes),
    }
    optional: dict[str, object | None] = {
        "authorization_details": [dict(detail) for detail in authorization_details] or None,
        "auth_time": authenticated_at,
        "acr": acr,
        "cnf": {"x5t#S256": certificate_thumbprint} if certificate_thumbprint else None,
    }
    claims |= {name: value for name, value in optional.items() if value is not None}
    headers = {"typ": TOKEN_TYPE, "kid": key.key_id}
    return jwt.encode(claims, key.private_key, algorithm=key.algorithm, headers=headers)
