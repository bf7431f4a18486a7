"""What a trusted proxy says of the caller it speaks for: `x-forwarded-for` and `x-forwarded-client-cert`.

Both are lists that each proxy on the way adds to on the right. They are read from the right, up to the first entry
that is no trusted proxy's: what stands left of it is what that stranger wrote, and is not looked at. An entry that is
read and cannot be understood refuses the call, since whom it is for is then not known.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NoReturn
from urllib.parse import unquote_to_bytes

from sluicegate.auth import Reason, certificate_names, certificate_thumbprint
from sluicegate.server.errors import CallRefused, FieldViolation

FORWARDED_FOR = "x-forwarded-for"
FORWARDED_CERTIFICATE = "x-forwarded-client-cert"

_PAIR = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)(;|, *|\Z)')
_HASH = re.compile(r"[0-9A-Fa-f]{64}")


def forwarded_address(
    values: Sequence[str], trusted: Sequence[IPv4Network | IPv6Network]
) -> IPv4Address | IPv6Address | None:
    """The right-most address of `x-forwarded-for` that lies in no trusted network.

    None if there is none: the proxy speaks for nobody. Raises CallRefused (REQUEST_INVALID).
    """
    entries = [entry.strip(" \t") for value in values for entry in value.split(",")]
    for entry in reversed(entries):
        try:
            address = ip_address(entry)
        except ValueError:
            _refuse(FORWARDED_FOR, "the entries that proxies add are IP addresses without ports")
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                _refuse(FORWARDED_FOR, "an address has no zone")
            address = address.ipv4_mapped or address
        if not any(address in network for network in trusted):
            return address
    return None


def forwarded_thumbprint(values: Sequence[str], is_proxy: Callable[[str, frozenset[str]], bool]) -> str | None:
    """Thumbprint of the right-most certificate of `x-forwarded-client-cert` that is no trusted proxy's.

    Envoy's format, of which Hash and Cert are read. `is_proxy` is asked with a thumbprint and, where there is a Cert,
    its names. None if there is none. Raises CallRefused (REQUEST_INVALID).
    """
    for element in reversed(_elements(",".join(values)) if values else []):
        thumbprint, names = _certificate(element)
        if not is_proxy(thumbprint, names):
            return thumbprint
    return None


def _elements(text: str) -> list[list[tuple[str, str]]]:
    """The elements' pairs. Strict: a stray quote must not let what a stranger wrote swallow what a proxy added."""
    elements: list[list[tuple[str, str]]] = [[]]
    position, separator = 0, ","
    while separator:
        match = _PAIR.match(text, position)
        if match is None:
            _refuse(FORWARDED_CERTIFICATE, "elements are key=value pairs as Envoy writes them")
        key, value, separator = match.groups()
        elements[-1].append((key, value[1:-1] if value.startswith('"') else value))
        if separator.startswith(","):
            elements.append([])
        position = match.end()
    return elements


def _certificate(element: Sequence[tuple[str, str]]) -> tuple[str, frozenset[str]]:
    """Thumbprint and names that an element tells."""
    hashes = [value for key, value in element if key == "Hash"]
    certificates = [value for key, value in element if key == "Cert"]
    if len(hashes) > 1 or len(certificates) > 1 or not (hashes or certificates):
        _refuse(FORWARDED_CERTIFICATE, "an element has one Hash, or one Cert, or one of each")
    if hashes and not _HASH.fullmatch(hashes[0]):
        _refuse(FORWARDED_CERTIFICATE, "Hash is a SHA-256 in hexadecimal")
    stated = _base64url(bytes.fromhex(hashes[0])) if hashes else None
    if not certificates:
        assert stated is not None
        return stated, frozenset()
    pem = unquote_to_bytes(certificates[0])
    try:
        thumbprint, names = certificate_thumbprint(pem), certificate_names(pem)
    except ValueError:
        _refuse(FORWARDED_CERTIFICATE, "Cert is a URL-encoded PEM certificate")
    if stated not in (None, thumbprint):
        _refuse(FORWARDED_CERTIFICATE, "Hash is the one of Cert")
    return thumbprint, names


def _base64url(digest: bytes) -> str:
    """A digest as thumbprints are written (RFC 8705, section 3.1)."""
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _refuse(header: str, rule: str) -> NoReturn:
    raise CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation(header, rule)])
