"""A certificate authority for tests of TLS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LOOPBACK = ip_address("127.0.0.1")


class Authority:
    """Writes certificates into a directory, each beside its key: NAME.pem and NAME.key. Its own is ca.pem."""

    def __init__(self, directory: Path, name: str = "test authority") -> None:
        self._directory = directory
        self._key = generate_private_key(SECP256R1())
        self._name = _name(name)
        now = datetime.now(UTC)
        built = self._builder(self._name, self._key.public_key(), now + timedelta(days=1))
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = directory / "ca.pem"
        self.certificate.write_bytes(built.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def issue(self, name: str, *, lives: timedelta = timedelta(days=1)) -> Path:
        """A certificate for the name and the loopback address; gives its file. A negative life: it has expired."""
        key = generate_private_key(SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(LOOPBACK)])
        built = self._builder(_name(name), key.public_key(), datetime.now(UTC) + lives)
        signed = built.add_extension(names, critical=False).sign(self._key, SHA256())
        (self._directory / f"{name}.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        path = self._directory / f"{name}.pem"
        path.write_bytes(signed.public_bytes(Encoding.PEM))
        return path

    def _builder(self, subject: x509.Name, key: CertificatePublicKeyTypes, until: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - timedelta(days=2))
            .not_valid_after(until)
        )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
