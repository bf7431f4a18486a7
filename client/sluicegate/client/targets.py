"""What a target is, and whether it stays on this machine, so that a token may go there without TLS."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

_PLAIN = re.compile(r"([^:]+)(?::[0-9]{1,5})?")
_BRACKETED = re.compile(r"\[([^\[\]]+)\](?::[0-9]{1,5})?")
_LISTED = {"ipv4": re.compile(r"([0-9.]+):[0-9]{1,5}"), "ipv6": re.compile(r"\[([^\[\]]+)\]:[0-9]{1,5}")}


def is_target(target: str) -> bool:
    """Whether this can be a gRPC target at all: no URL, and no blank but in the path of a unix socket.

    Several are `ipv4:` or `ipv6:` and addresses, each with its port; of names there is one.
    """
    if not target or ("://" in target and not target.startswith(("dns://", "unix://"))):
        return False
    scheme, _, rest = target.partition(":")
    if scheme in _LISTED:
        return all(_is_listed(scheme, address) for address in rest.split(","))
    return scheme in ("unix", "unix-abstract") or not re.search(r"[\s\x00-\x1f,]", target)


def is_local(target: str) -> bool:
    """Whether every address of this gRPC target is a loopback address or a unix socket.

    Forms are those of gRPC's naming document: `host:port`, `dns:host:port`, `dns://authority/host:port`,
    `ipv4:a:port,b:port`, `ipv6:[a]:port`, `unix:path`, `unix-abstract:name`. What is not understood is
    not local.
    """
    if "%" in target:
        # gRPC decodes it, so the name that it connects to is not the one that stands here.
        return False
    scheme, separator, rest = target.partition(":")
    if separator and scheme in ("unix", "unix-abstract"):
        return True
    if separator and scheme in ("ipv4", "ipv6"):
        return all(_is_local_address(address) for address in rest.split(","))
    if separator and scheme == "dns":
        path = rest.removeprefix("///") if rest.startswith("///") else rest
        return not path.startswith("/") and _is_local_address(path)
    return "/" not in target and _is_local_address(target)


def is_local_url(url: str) -> bool:
    """Whether an http URL stays on this machine."""
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a host name or address is the loopback interface's. No name but `localhost` is."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_listed(scheme: str, address: str) -> bool:
    """Whether this is an address of the scheme's version with a port: gRPC takes no other into its list."""
    match = _LISTED[scheme].fullmatch(address)
    try:
        return match is not None and f"ipv{ip_address(match[1]).version}" == scheme
    except ValueError:
        return False


def _is_local_address(address: str) -> bool:
    """Whether `host`, `host:port` or `[v6]:port` is this machine's. What stands after the port is not understood."""
    bracketed = _BRACKETED.fullmatch(address)
    if bracketed is not None:
        return ":" in bracketed[1] and is_loopback(bracketed[1])
    if address.count(":") > 1:
        return is_loopback(address)
    plain = _PLAIN.fullmatch(address)
    return plain is not None and is_loopback(plain[1])
