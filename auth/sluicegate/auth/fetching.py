"""One bounded GET of a document that an issuer publishes. Never on the path of a request: background tasks only.

The answer is whatever is at that URL and nothing else: no redirect is followed, no proxy of the environment is asked,
nothing is unpacked. Size and time have limits, so neither an endless answer nor one that trickles holds anything up.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl

import httpx

from sluicegate.auth.errors import ConfigurationError, KeySetError, KeySetNotFound
from sluicegate.auth.jwk import MAX_KEY_SET_BYTES

FETCH_SECONDS = 10.0
"""For one document, from the look-up of its host's name to its last byte."""


async def fetch_document(
    url: httpx.URL, *, accept: str, tls: ssl.SSLContext | None, transport: httpx.AsyncBaseTransport | None
) -> bytes:
    """What a GET of the URL gives. Raises KeySetError; KeySetNotFound for 404.

    `tls` None: the authorities that this machine trusts, read anew each time. `transport` None: the network.
    """
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            # Reading the machine's authorities takes tens of milliseconds, which running streams would feel.
            if tls is None:
                tls = await asyncio.to_thread(ssl.create_default_context)
            return await _get(url, accept, tls, transport)
    except TimeoutError as error:
        raise KeySetError(f"{url}: no answer within {FETCH_SECONDS:.0f} s") from error
    except (httpx.HTTPError, OSError) as error:  # httpx lets ssl.SSLError of a spoilt record through
        raise KeySetError(f"{url}: {type(error).__name__}") from error


async def _get(url: httpx.URL, accept: str, tls: ssl.SSLContext, transport: httpx.AsyncBaseTransport | None) -> bytes:
    client = httpx.AsyncClient(
        follow_redirects=False,
        timeout=FETCH_SECONDS / 2,
        transport=transport,
        trust_env=False,
        verify=tls,
    )
    headers = {"accept": accept, "accept-encoding": "identity"}
    async with client, client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.NOT_FOUND:
            raise KeySetNotFound(f"{url}: answered 404, not 200")
        if response.status_code != httpx.codes.OK:
            raise KeySetError(f"{url}: answered {response.status_code}, not 200")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise KeySetError(f"{url}: answered compressed, though asked not to")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_KEY_SET_BYTES:
                raise KeySetError(f"{url}: answered more than {MAX_KEY_SET_BYTES} bytes")
        return bytes(body)


def checked_url(text: str, what: str) -> httpx.URL:
    """The URL, if it is https, or http on this host. Raises ConfigurationError; `what` names it there."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{text!r} is not a URL") from error
    if url.userinfo or url.fragment or not url.host:
        raise ConfigurationError(f"{what} has a host and neither credentials nor a fragment")
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host)):
        raise ConfigurationError(f"{text!r}: {what} must be https, except to a loopback address")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
