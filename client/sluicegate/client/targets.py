"""Whether a target stays on this machine, so that a token may go there without TLS."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


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
        return all(is_loopback(_host(address)) for address in rest.split(","))
    if separator and scheme == "dns":
        path = rest.removeprefix("///") if rest.startswith("///") else rest
        return not path.startswith("/") and is_loopback(_host(path))
    return "/" not in target and is_loopback(_host(target))


def is_local_url(url: str) -> bool:
    """Whether an http URL stays on this machine."""
    return is_loopback(urlsplit(url).hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is the loopback interface's. No name but `localhost` is."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.count(":") > 1 else address.partition(":")[0]
