"""TLS end to end: who is believed, and who is told the token."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest
from client_server import FakeServer, serving
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sluicegate.client import Client, Tls, Unavailable
from sluicegate.v1.access_service_pb2 import GetCallerIdentityResponse

NOT_BEFORE = datetime(2020, 1, 1)
VALIDITY = timedelta(days=36_500)


def certificate(name: str, key: EllipticCurvePrivateKey) -> bytes:
    """A certificate for the name, signed by itself, PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_BEFORE + VALIDITY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    return built.public_bytes(Encoding.PEM)


def pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for name in ("server.example", "client.example", "stranger.example"):
        key = generate_private_key(SECP256R1())
        (folder / f"{name}.pem").write_bytes(certificate(name, key))
        (folder / f"{name}.key").write_bytes(pem(key))
    return folder


@pytest.fixture
def tls_server(files: Path) -> Iterator[FakeServer]:
    own = ((files / "server.example.key").read_bytes(), (files / "server.example.pem").read_bytes())
    trusted = (files / "client.example.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([own], root_certificates=trusted, require_client_auth=True)
    with serving(credentials) as fake:
        fake.will("GetCallerIdentity", [GetCallerIdentityResponse(subject="alice")])
        yield fake


def settings(files: Path, *, ca: str = "server.example", own: str = "client.example", name: str) -> Tls:
    return Tls(ca=files / f"{ca}.pem", certificate=files / f"{own}.pem", key=files / f"{own}.key", server_name=name)


async def test_both_sides_prove_who_they_are(tls_server: FakeServer, files: Path) -> None:
    tls = settings(files, name="server.example")

    async with Client(tls_server.target, token="abc", tls=tls) as client:
        identity = await client.whoami()

    assert identity.subject == "alice"
    assert tls_server.calls[0].metadata["authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("ca", "own", "name"),
    [
        ("stranger.example", "client.example", "server.example"),
        ("server.example", "stranger.example", "server.example"),
        ("server.example", "client.example", "other.example"),
    ],
)
async def test_nobody_is_told_the_token_if_either_is_not_believed(
    tls_server: FakeServer, files: Path, ca: str, own: str, name: str
) -> None:
    tls = settings(files, ca=ca, own=own, name=name)

    async with Client(tls_server.target, token="abc", tls=tls) as client:
        with pytest.raises(Unavailable):
            await client.whoami()

    assert tls_server.calls == []
