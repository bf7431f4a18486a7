"""What a connection shows of its peer: network address and TLS certificate."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote

import grpc

from sluicegate.auth import Peer, certificate_thumbprint

_ADDRESS = re.compile(r"(?:ipv4:(?P<v4>[0-9.]+)|ipv6:\[?(?P<v6>[0-9A-Fa-f:.]+)(?:%[\w.]+)?\]?):\d+")


def peer_of(context: grpc.aio.ServicerContext[object, object]) -> Peer:
    """The connection's peer. A certificate is there only if TLS verified it against the client CA."""
    pem = list(context.auth_context().get("x509_pem_cert", ()))
    return Peer(
        address=_address(context.peer()),
        certificate_thumbprint=certificate_thumbprint(pem[0]) if pem else None,
    )


def _address(peer: str) -> IPv4Address | IPv6Address | None:
    match = _ADDRESS.fullmatch(unquote(peer))
    return ip_address(match["v4"] or match["v6"]) if match else None
