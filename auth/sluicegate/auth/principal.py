"""Who calls: the verified caller, what its token narrows, and what the connection shows of it."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import total_ordering
from ipaddress import IPv4Address, IPv6Address

from sluicegate.auth.encoding import encode_base64url


@total_ordering
class Audience(Enum):
    """Who a model is open to, from the widest circle to the narrowest: PUBLIC < PARTNER < INTERNAL."""

    PUBLIC = "public"
    PARTNER = "partner"
    INTERNAL = "internal"

    @property
    def rank(self) -> int:
        return ("public", "partner", "internal").index(self.value)

    def __lt__(self, other: Audience) -> bool:
        return self.rank < other.rank


@dataclass(frozen=True, slots=True)
class AuthorizationDetail:
    """One `model_partnership` entry of a token's `authorization_details` (RFC 9396).

    It names the agreement that the caller claims and may narrow it further; None means not narrowed.
    """

    agreement: str
    actions: frozenset[str] | None
    models: frozenset[str] | None
    purpose: str | None
    limits: Mapping[str, int]
    """Quota name to maximum; the smaller of this and the policy's counts."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, as its verified token says. All names are only unique together with `issuer`.

    For an anonymous caller every string and set is empty and every time 0.
    """

    issuer: str
    subject: str
    client_id: str
    token_id: str
    key_id: str
    scopes: frozenset[str]
    authorization_details: tuple[AuthorizationDetail, ...]
    issued_at: int
    """Unix seconds, as `expires_at` and `authenticated_at`."""
    expires_at: int
    authenticated_at: int | None
    acr: str | None
    certificate_thumbprint: str | None
    """The TLS certificate that the token is bound to (`cnf`, `x5t#S256`), checked against the peer's."""
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """What the connection shows of the caller, apart from its token."""

    address: IPv4Address | IPv6Address | None
    """None where there is no network address (a Unix socket) or none is known."""
    certificate_thumbprint: str | None = None
    """`certificate_thumbprint` of the client certificate that TLS verified; None without one."""

    def __post_init__(self) -> None:
        mapped = getattr(self.address, "ipv4_mapped", None)
        if mapped is not None:
            object.__setattr__(self, "address", mapped)


def anonymous() -> Principal:
    """The principal of a call without a token. The policy decides whether such calls are served."""
    return Principal(
        issuer="",
        subject="",
        client_id="",
        token_id="",
        key_id="",
        scopes=frozenset(),
        authorization_details=(),
        issued_at=0,
        expires_at=0,
        authenticated_at=None,
        acr=None,
        certificate_thumbprint=None,
        anonymous=True,
    )


def certificate_thumbprint(pem: bytes | str) -> str:
    """`x5t#S256` of a PEM certificate (RFC 8705, section 3.1). Raises ValueError for anything else."""
    text = pem.decode("ascii") if isinstance(pem, bytes) else pem
    return encode_base64url(hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).digest())
