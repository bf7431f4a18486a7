from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from certificates import Authority

from sluicegate.auth import Peer, certificate_thumbprint
from sluicegate.server.config import TrustedProxy
from sluicegate.server.errors import CallRefused
from sluicegate.server.rpc.peer import Peers, connection_address

HASH = "ab" * 32
HEADERS = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-client-cert", f"Hash={HASH}")]
TOLD = Peer(IPv4Address("192.0.2.7"), "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s")


class Connection:
    """What gRPC tells of a call and its connection."""

    def __init__(self, peer: str, certificates: Sequence[bytes], metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self._peer = peer
        self._certificates = certificates
        self._metadata = metadata

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": list(self._certificates)} if self._certificates else {}

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._metadata


def connection(
    peer: str = "ipv4:10.0.0.5:40000",
    certificates: Sequence[bytes] = (),
    metadata: Sequence[tuple[str, str | bytes]] = HEADERS,
) -> Any:
    return cast("Any", Connection(peer, certificates, metadata))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


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
    assert Peers().of(connection(peer)).address == address


def test_the_certificate_is_the_connections_first(authority: Authority) -> None:
    own = authority.issue("own.example").read_bytes()

    peer = Peers().of(connection(certificates=[own, authority.certificate.read_bytes()]))

    assert peer == Peer(ip_address("10.0.0.5"), certificate_thumbprint(own))


def test_a_connection_without_a_certificate_has_no_thumbprint() -> None:
    assert Peers().of(connection()).certificate_thumbprint is None


def test_a_proxy_is_trusted_by_a_name_or_by_its_certificate(authority: Authority) -> None:
    proxy = authority.issue("proxy.example").read_bytes()
    call = connection(certificates=[proxy])

    assert Peers([TrustedProxy(name="proxy.example")]).of(call) == TOLD
    assert Peers([TrustedProxy(thumbprint=certificate_thumbprint(proxy))]).of(call) == TOLD
    assert Peers([TrustedProxy(name="other.example"), TrustedProxy(name="proxy.example")]).of(call) == TOLD


@pytest.mark.parametrize(
    "name", ["other.example", "PROXY.EXAMPLE", "*.example", "example", "127.0.0.1", "proxy.example."]
)
def test_what_anyone_else_says_is_ignored(authority: Authority, name: str) -> None:
    own = authority.issue("proxy.example").read_bytes()

    peer = Peers([TrustedProxy(name=name)]).of(connection(certificates=[own]))

    assert peer == Peer(ip_address("10.0.0.5"), certificate_thumbprint(own))


def test_without_a_certificate_nobody_is_a_proxy_wherever_it_calls_from() -> None:
    peers = Peers([TrustedProxy(name="proxy.example", networks=(IPv4Network("10.0.0.0/24"),))])

    assert peers.of(connection()) == Peer(ip_address("10.0.0.5"), None)
    assert peers.of(connection("unix:")) == Peer(None, None)


def test_headers_that_cannot_be_understood_are_ignored_like_any_of_a_stranger(authority: Authority) -> None:
    own = authority.issue("own.example").read_bytes()
    nonsense = [("x-forwarded-for", "nonsense"), ("x-forwarded-client-cert", '"')]
    peers = Peers([TrustedProxy(name="proxy.example")])

    assert peers.of(connection(certificates=[own], metadata=nonsense)).address == ip_address("10.0.0.5")
    assert peers.of(connection(metadata=nonsense)).address == ip_address("10.0.0.5")


@pytest.mark.parametrize("header", ["x-forwarded-for", "x-forwarded-client-cert"])
@pytest.mark.parametrize("value", ["nonsense", "", b"\xff", "192.0.2.7;"])
def test_a_trusted_proxys_header_that_cannot_be_understood_refuses_the_call(
    authority: Authority, header: str, value: str | bytes
) -> None:
    proxy = authority.issue("proxy.example").read_bytes()
    metadata = [pair for pair in HEADERS if pair[0] != header] + [(header, value)]

    with pytest.raises(CallRefused):
        Peers([TrustedProxy(name="proxy.example")]).of(connection(certificates=[proxy], metadata=metadata))


def test_a_proxy_that_tells_of_nobody_is_not_taken_for_the_caller(authority: Authority) -> None:
    proxy = authority.issue("proxy.example").read_bytes()
    call = connection(certificates=[proxy], metadata=[])

    assert Peers([TrustedProxy(name="proxy.example")]).of(call) == Peer(None, None)
    assert connection_address(call) == ip_address("10.0.0.5")


def test_proxies_behind_proxies_are_passed_over(authority: Authority) -> None:
    proxy = authority.issue("proxy.example").read_bytes()
    peers = Peers([TrustedProxy(name="proxy.example", networks=(IPv4Network("10.0.0.0/24"),))])
    metadata = [("x-forwarded-for", "198.51.100.1, 192.0.2.7, 10.0.0.9")]

    assert peers.of(connection(certificates=[proxy], metadata=metadata)).address == ip_address("192.0.2.7")
