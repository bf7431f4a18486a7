"""Bounded GETs of pages that operators' commands read: metrics of our servers, answers of a Prometheus.

The answer is whatever is at that URL and nothing else: no redirect is followed, no proxy of the environment is asked,
nothing is unpacked. Size and time have limits. Whoever answers may be an impostor.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from sluicegate.server.errors import PageUnreachable, PageUnusable

_BARE_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}:[0-9]{1,5}(/[A-Za-z0-9._/-]{0,100})?")
_STATUS_ADVICE = {
    401: "it asks for a user and a password that it knows",
    403: "it does not show this to us",
    404: "it has no such page",
}


@dataclass(frozen=True, slots=True)
class Access:
    """How pages are asked for. `user` and `password`: HTTP basic authentication, both or neither."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    """PEM file of the authorities that vouch for servers; None: those that this machine trusts."""


def tls_context(access: Access) -> ssl.SSLContext:
    """What servers' certificates are checked with. Raises OSError, which ssl.SSLError is too, for a bad `ca`."""
    return ssl.create_default_context(cafile=access.ca)


def open_client(access: Access, *, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for `fetch_page`, which the caller closes. `transport` None: the network.

    Raises OSError for a `ca` that is no file of certificates.
    """
    auth = None
    if access.user is not None and access.password is not None:
        auth = httpx.BasicAuth(access.user, access.password)
    return httpx.AsyncClient(
        auth=auth,
        follow_redirects=False,
        transport=transport,
        trust_env=False,
        verify=tls_context(access),
    )


async def fetch_page(
    client: httpx.AsyncClient,
    url: httpx.URL,
    *,
    accept: str,
    limit_bytes: int,
    limit_seconds: float,
    parameters: Mapping[str, str] | None = None,
) -> bytes:
    """What a GET of the URL gives, whole. Raises PageUnreachable, PageUnusable."""
    try:
        async with asyncio.timeout(limit_seconds):
            return await _get(client, url, accept, limit_bytes, parameters)
    except TimeoutError:
        raise PageUnreachable(f"no answer within {limit_seconds:g} s") from None
    except httpx.ConnectError as error:
        raise PageUnreachable(_connect_problem(error)) from error
    except httpx.RemoteProtocolError as error:
        advice = "try https://, or the port of metrics" if url.scheme == "http" else "try the port of metrics"
        raise PageUnreachable(f"answers, but not in HTTP; {advice}") from error
    except (httpx.HTTPError, OSError) as error:  # httpx lets ssl.SSLError of a spoilt record through
        raise PageUnreachable("broke off its answer") from error


async def _get(
    client: httpx.AsyncClient, url: httpx.URL, accept: str, limit_bytes: int, parameters: Mapping[str, str] | None
) -> bytes:
    headers = {"accept": accept, "accept-encoding": "identity"}
    async with client.stream("GET", url, headers=headers, params=parameters, timeout=None) as response:
        status = response.status_code
        if status >= 500:
            raise PageUnreachable(f"answered {status}")
        if status != httpx.codes.OK:
            advice = _STATUS_ADVICE.get(status, "expected was 200")
            raise PageUnusable(f"answered {status}: {advice}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise PageUnusable("answered compressed, though asked not to")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit_bytes:
                raise PageUnusable(f"answered more than {limit_bytes} bytes")
        return bytes(body)


def parse_page_url(text: str) -> httpx.URL:
    """The URL of a page. Raises ValueError."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ValueError(f"is no URL{_with_scheme(text)}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"is no http:// or https:// URL{_with_scheme(text)}")
    if url.userinfo:
        raise ValueError("has a user or a password in it, where others see them: use --user and --password-file")
    if url.fragment or url.query:
        raise ValueError("has a query or a fragment")
    return url


def _with_scheme(text: str) -> str:
    """Advice for an address that lacks nothing but its scheme; nothing of what could be a password is repeated."""
    match = _BARE_ADDRESS.fullmatch(text)
    return "" if match is None else f": write http://{text}"


def shows_password(url: httpx.URL) -> bool:
    """Whether a password that is sent there could be read on the way."""
    return url.scheme != "https" and not _is_loopback(url.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _connect_problem(error: httpx.ConnectError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not good: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "answers, but not in TLS as we do; try http://"
        if isinstance(cause, socket.gaierror):
            return "no such host is known here"
        cause = cause.__cause__ or cause.__context__
    return "cannot be reached"
