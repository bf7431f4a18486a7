"""TLS files: which of them a server can serve with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificates import Authority
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from sluicegate.auth import certificate_problems


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
