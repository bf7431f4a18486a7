from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, cast

import pytest
from certificates import Authority

from sluicegate.auth import certificate_thumbprint
from sluicegate.server.rpc.peer import peer_of


class Connection:
    """What gRPC tells of a connection."""

    def __init__(self, peer: str, **properties: list[bytes]) -> None:
        self._peer = peer
        self._properties = properties

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._properties


def connection(peer: str, **properties: list[bytes]) -> Any:
    return cast("Any", Connection(peer, **properties))


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.7:40000", IPv4Address("192.0.2.7")),
        ("ipv6:[2001:db8::7]:40000", IPv6Address("2001:db8::7")),
        ("ipv6:%5B2001:db8::7%5D:40000", IPv6Address("2001:db8::7")),
        ("ipv6:%5Bfe80::1%25eth0%5D:40000", IPv6Address("fe80::1")),
        ("ipv6:[::ffff:192.0.2.7]:40000", IPv4Address("192.0.2.7")),
        ("unix:", None),
        ("unix:/run/sluicegate.sock", None),
        ("vsock:2:50051", None),
        ("", None),
    ],
)
def test_the_address_is_read_from_what_grpc_says(peer: str, address: Any) -> None:
    assert peer_of(connection(peer)).address == address


def test_the_certificate_is_the_connections_first(tmp_path: Any) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("own.example").read_bytes()

    peer = peer_of(connection("ipv4:127.0.0.1:1", x509_pem_cert=[own, authority.certificate.read_bytes()]))

    assert peer.certificate_thumbprint == certificate_thumbprint(own)
    assert peer.address == ip_address("127.0.0.1")


def test_a_connection_without_a_certificate_has_no_thumbprint() -> None:
    assert peer_of(connection("ipv4:127.0.0.1:1")).certificate_thumbprint is None
