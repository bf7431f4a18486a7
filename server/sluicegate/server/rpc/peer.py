"""Who calls: the connection's network address and TLS certificate, or those that a trusted proxy tells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote

import grpc

from sluicegate.auth import Peer, certificate_names, certificate_thumbprint
from sluicegate.server.config import TrustedProxy
from sluicegate.server.rpc.forwarded import (
    FORWARDED_CERTIFICATE,
    FORWARDED_FOR,
    forwarded_address,
    forwarded_thumbprint,
)

Context = grpc.aio.ServicerContext[object, object]

_ADDRESS = re.compile(r"(?:ipv4:(?P<v4>[0-9.]+)|ipv6:\[?(?P<v6>[0-9A-Fa-f:.]+)(?:%[\w.]+)?\]?):\d+")
_REMEMBERED_CERTIFICATES = 256


class Peers:
    """Tells calls' peers. A proxy is trusted by the certificate that TLS verified, never by its address."""

    def __init__(self, trusted: Sequence[TrustedProxy] = ()) -> None:
        self._names = frozenset(proxy.name for proxy in trusted if proxy.name is not None)
        self._thumbprints = frozenset(proxy.thumbprint for proxy in trusted if proxy.thumbprint is not None)
        self._networks = tuple(network for proxy in trusted for network in proxy.networks)
        self._is_trusted = lru_cache(_REMEMBERED_CERTIFICATES)(self._judge)

    def of(self, context: Context) -> Peer:
        """The call's peer. Raises CallRefused for a trusted proxy's headers that cannot be understood.

        A trusted proxy is never taken for the caller: what it does not tell is not known.
        """
        pem = _certificate(context)
        if pem is None or not (self._names or self._thumbprints) or not self._is_trusted(pem):
            return Peer(connection_address(context), certificate_thumbprint(pem) if pem is not None else None)
        return Peer(
            forwarded_address(_header(context, FORWARDED_FOR), self._networks),
            forwarded_thumbprint(_header(context, FORWARDED_CERTIFICATE), self._is_proxy),
        )

    def _judge(self, pem: bytes) -> bool:
        try:
            names = certificate_names(pem)
        except ValueError:
            names = frozenset()  # TLS took it nevertheless; it is nobody by name
        return self._is_proxy(certificate_thumbprint(pem), names)

    def _is_proxy(self, thumbprint: str, names: frozenset[str]) -> bool:
        return thumbprint in self._thumbprints or not names.isdisjoint(self._names)


def connection_address(context: Context) -> IPv4Address | IPv6Address | None:
    """The address at the other end of the connection; None for a Unix socket."""
    match = _ADDRESS.fullmatch(unquote(context.peer()))
    return ip_address(match["v4"] or match["v6"]) if match else None


def _certificate(context: Context) -> bytes | None:
    """PEM of the connection's certificate. It is there only if TLS verified it against the client CA."""
    certificates = list(context.auth_context().get("x509_pem_cert", ()))
    return certificates[0] if certificates else None


def _header(context: Context, name: str) -> list[str]:
    values = [value for key, value in context.invocation_metadata() or () if key == name]
    return [value if isinstance(value, str) else value.decode("latin-1") for value in values]
