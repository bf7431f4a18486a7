"""Who calls: audiences in order, the peer's address, and the thumbprint of its certificate."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from sluicegate.auth import Audience, Peer, anonymous, certificate_thumbprint


def certificate() -> x509.Certificate:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    return builder.sign(key, None)


def test_audiences_go_from_the_widest_circle_to_the_narrowest() -> None:
    assert sorted([Audience.INTERNAL, Audience.PUBLIC, Audience.PARTNER]) == [
        Audience.PUBLIC,
        Audience.PARTNER,
        Audience.INTERNAL,
    ]


def test_an_ipv4_address_inside_ipv6_is_the_ipv4_address() -> None:
    assert Peer(ip_address("::ffff:192.0.2.7")) == Peer(ip_address("192.0.2.7"))


def test_a_thumbprint_is_the_sha_256_of_the_der_form() -> None:
    made = certificate()
    der = made.public_bytes(Encoding.DER)
    expected = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()

    pem = made.public_bytes(Encoding.PEM)

    assert certificate_thumbprint(pem) == certificate_thumbprint(pem.decode()) == expected


@pytest.mark.parametrize("text", ["", "not a certificate", b"\xff"])
def test_what_is_no_certificate_has_no_thumbprint(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        certificate_thumbprint(text)


def test_an_anonymous_caller_has_no_scope_and_no_name() -> None:
    nobody = anonymous()

    assert nobody.anonymous
    assert (nobody.issuer, nobody.client_id, nobody.scopes) == ("", "", frozenset())
