"""Keys of an issuer that says itself where they are: OpenID Connect Discovery 1.0 and RFC 8414."""

from __future__ import annotations

import ssl

import httpx

from sluicegate.auth.encoding import parse_json
from sluicegate.auth.errors import ConfigurationError, KeySetError, KeySetNotFound
from sluicegate.auth.fetching import checked_url, fetch_document
from sluicegate.auth.keys import JWKS_TYPES, URL_REFRESH_SECONDS


class OidcDiscovery:
    """The key set that an issuer's discovery document names; the document is fetched anew with the keys.

    The document is at `<issuer>/.well-known/openid-configuration` or, if there is none, where RFC 8414, section 3
    puts it: `.well-known/oauth-authorization-server` between host and path. It must name exactly this issuer, else
    whoever answers there could lend us another's keys.
    """

    refresh_seconds = URL_REFRESH_SECONDS

    def __init__(
        self,
        issuer: str,
        *,
        tls: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Raises ConfigurationError for an issuer that is no https URL (http on this host), or one with a query."""
        self._issuer = issuer
        self._url = checked_url(issuer, "an issuer with discovery")
        if self._url.query or issuer.endswith("?"):
            raise ConfigurationError("an issuer with discovery has no query (RFC 8414, section 2)")
        self._tls = tls
        self._transport = transport

    async def fetch(self) -> bytes:
        keys = self._key_set_url(await self._document())
        return await fetch_document(keys, accept=JWKS_TYPES, tls=self._tls, transport=self._transport)

    async def _document(self) -> bytes:
        path = self._url.raw_path.rstrip(b"/")
        places = (path + b"/.well-known/openid-configuration", b"/.well-known/oauth-authorization-server" + path)
        first, second = (self._url.copy_with(raw_path=place) for place in places)
        try:
            return await self._get(first)
        except KeySetNotFound:
            return await self._get(second)

    async def _get(self, url: httpx.URL) -> bytes:
        return await fetch_document(url, accept="application/json", tls=self._tls, transport=self._transport)

    def _key_set_url(self, raw: bytes) -> httpx.URL:
        """`jwks_uri` of the document. Raises KeySetError for another issuer's document and for an unsafe URL."""
        try:
            document = parse_json(raw)
        except ValueError as error:
            raise KeySetError(f"{self._issuer}: its discovery document is not strict JSON: {error}") from error
        named = document.get("jwks_uri") if isinstance(document, dict) else None
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise KeySetError(f"{self._issuer}: its discovery document does not name exactly this issuer")
        if not isinstance(named, str):
            raise KeySetError(f"{self._issuer}: its discovery document has no `jwks_uri`")
        try:
            url = checked_url(named, "`jwks_uri`")
        except ConfigurationError as error:
            raise KeySetError(f"{self._issuer}: its discovery document: {error}") from error
        if url.scheme != "https" and (self._url.scheme, self._url.host) != (url.scheme, url.host):
            # An issuer elsewhere has no say in what this machine asks of itself.
            raise KeySetError(f"{self._issuer}: `jwks_uri` on another host must be https")
        return url
