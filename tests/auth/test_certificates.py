"""TLS files: which of them a server can serve with, and the names in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from certificates import Authority
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from sluicegate.auth import certificate_names, certificate_problems


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def key_of(certificate: Path) -> bytes:
    return certificate.with_suffix(".key").read_bytes()


def test_a_valid_certificate_with_its_key_has_no_problems(authority: Authority) -> None:
    own, ca = authority.issue("server"), authority.certificate.read_bytes()

    assert certificate_problems(own.read_bytes() + ca, key_of(own), ca, datetime.now(UTC)) == {}


def test_an_expired_certificate_is_told_with_its_date(authority: Authority) -> None:
    own = authority.issue("server")
    later = datetime(2099, 1, 1, tzinfo=UTC)

    problems = certificate_problems(own.read_bytes(), key_of(own), None, later)

    until = datetime.now(UTC) + timedelta(days=1)
    assert list(problems) == ["certificate"]
    assert problems["certificate"].startswith(f"expired on {until:%Y-}")


def test_another_certificate_s_key_is_told(authority: Authority) -> None:
    own, other = authority.issue("server"), authority.issue("other")

    problems = certificate_problems(own.read_bytes(), key_of(other), None, datetime.now(UTC))

    assert problems == {"key": "is not the key of the certificate"}


def test_an_encrypted_key_is_told(authority: Authority) -> None:
    own = authority.issue("server")
    key = load_pem_private_key(key_of(own), password=None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))

    problems = certificate_problems(own.read_bytes(), encrypted, None, datetime.now(UTC))

    assert problems == {"key": "is encrypted; give one that needs no passphrase"}


@pytest.mark.parametrize("content", [b"", b"text", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_contents_that_are_none_are_told_for_each_file(content: bytes) -> None:
    problems = certificate_problems(content, content, content, datetime.now(UTC))

    assert problems == {
        "certificate": "is no PEM file of certificates",
        "key": "is no PEM file of a private key",
        "client_ca": "is no PEM file of certificates",
    }


def named(*names: x509.GeneralName) -> bytes:
    """A certificate with these names."""
    key, today = generate_private_key(SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "common.example")])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), today, today)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def test_a_certificates_names_are_its_dns_names_and_uris() -> None:
    pem = named(
        x509.DNSName("proxy.example"),
        x509.DNSName("*.example"),
        x509.UniformResourceIdentifier("spiffe://example/proxy"),
        x509.RFC822Name("mail.example"),
        x509.IPAddress(ip_address("192.0.2.7")),
    )

    assert certificate_names(pem) == {"proxy.example", "*.example", "spiffe://example/proxy"}


def test_a_certificate_without_alternative_names_has_none_whatever_its_subject() -> None:
    assert certificate_names(named()) == frozenset()


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"])
def test_names_of_what_is_no_certificate_cannot_be_read(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        certificate_names(pem)
