"""Tokens from an OIDC provider by the client credentials grant (RFC 6749 §4.4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, urlsplit

from sluicegate.client.errors import (
    ConfigurationError,
    InsecureTransport,
    IssuerUnavailable,
    TokenRefused,
    TokenUnavailable,
)
from sluicegate.client.status import printable
from sluicegate.client.targets import is_local_url
from sluicegate.client.tokens import checked

if TYPE_CHECKING:
    import httpx

REFRESH_MARGIN_SECONDS = 60.0
"""A token is replaced this long before it expires, or at four fifths of a shorter life."""
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Lease:
    token: str
    fresh_until: float
    expires: float


class ClientCredentials:
    """Fetches a token from the issuer, and a new one before it expires.

    However many calls wait, one fetch runs. If a refresh fails while the old token still lives, the old
    one is used. Raises TokenRefused if the issuer says no, IssuerUnavailable if it does not answer, and
    TokenUnavailable if its answer cannot be used. `transport` and `clock` are for tests.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str,
        *,
        scopes: Sequence[str] = (),
        audience: str | None = None,
        authorization_details: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        wanted = {
            "scope": " ".join(scopes),
            "audience": audience,
            "authorization_details": authorization_details,
        }
        self._form = {"grant_type": "client_credentials"} | {k: v for k, v in wanted.items() if v}
        self._transport = transport
        self._clock = clock
        self._endpoint: _Endpoint | None = None
        self._lease: _Lease | None = None
        self._fetching: asyncio.Task[_Lease] | None = None
        _require_private(issuer)

    async def token(self) -> str:
        lease = self._lease
        if lease is not None and self._clock() < lease.fresh_until:
            return lease.token
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        try:
            # One waiter that is cancelled must not take the fetch from the others.
            return (await asyncio.shield(self._fetching)).token
        except TokenUnavailable:
            if lease is not None and self._lease is lease and self._clock() < lease.expires:
                return lease.token
            raise

    def forget(self, token: str) -> None:
        if self._lease is not None and self._lease.token == token:
            self._lease = None

    def _fetched(self, task: asyncio.Task[_Lease]) -> None:
        self._fetching = None
        if not task.cancelled() and task.exception() is None:
            self._lease = task.result()

    async def _fetch(self) -> _Lease:
        import httpx

        try:
            # Plain http goes to this machine only; a proxy of the environment would read the secret.
            direct: dict[str, httpx.AsyncBaseTransport | None] = {"http://": None}
            async with httpx.AsyncClient(transport=self._transport, mounts=direct, timeout=TIMEOUT_SECONDS) as http:
                if self._endpoint is None:
                    self._endpoint = await self._discover(http)
                return await self._request(http, self._endpoint)
        except httpx.HTTPError as fault:
            kind = fault.__class__.__name__
            raise IssuerUnavailable(f"issuer {self._issuer} did not answer: {kind}") from fault
        except httpx.InvalidURL as fault:
            raise TokenUnavailable(f"issuer {self._issuer}: a URL of it cannot be used") from fault

    async def _discover(self, http: httpx.AsyncClient) -> _Endpoint:
        """OpenID Connect Discovery 1.0 §4; the issuer must name itself exactly (§4.3)."""
        answer = await http.get(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        document = self._json(answer, "discovery document")
        url = document.get("token_endpoint")
        if document.get("issuer") != self._issuer or not isinstance(url, str):
            raise TokenUnavailable(f"issuer {self._issuer}: its discovery document is another issuer's or incomplete")
        try:
            _require_private(url)
        except ConfigurationError as refused:
            raise TokenUnavailable(f"issuer {self._issuer}: its token endpoint cannot be used: {refused}") from None
        methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return _Endpoint(url, is_basic=isinstance(methods, list) and "client_secret_basic" in methods)

    async def _request(self, http: httpx.AsyncClient, endpoint: _Endpoint) -> _Lease:
        asked = self._clock()
        if endpoint.is_basic:
            # RFC 6749 §2.3.1: both are form-encoded before they become user and password.
            credentials = (quote_plus(self._client_id), quote_plus(self._client_secret))
            answer = await http.post(endpoint.url, data=self._form, auth=credentials)
        else:
            secrets = {"client_id": self._client_id, "client_secret": self._client_secret}
            answer = await http.post(endpoint.url, data=self._form | secrets)
        document = self._json(answer, "token answer")
        if str(document.get("token_type", "")).lower() != "bearer":
            raise TokenUnavailable(f"issuer {self._issuer} gave something else than a bearer token")
        lifetime = document.get("expires_in")
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime > 0:
            raise TokenUnavailable(f"issuer {self._issuer} did not say how long its token lives")
        margin = min(REFRESH_MARGIN_SECONDS, lifetime / 5)
        token = checked(document.get("access_token"), f"issuer {self._issuer}")
        return _Lease(token, fresh_until=asked + lifetime - margin, expires=asked + lifetime)

    def _json(self, answer: httpx.Response, what: str) -> dict[str, object]:
        try:
            document: object = answer.json()
        except ValueError:
            document = None
        if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
            code = document.get("error") if isinstance(document, dict) else None
            said = printable(code) if isinstance(code, str) else f"HTTP {answer.status_code}"
            raise TokenRefused(f"issuer {self._issuer} refused the {what}: {said}")
        if answer.status_code != 200:
            raise IssuerUnavailable(f"issuer {self._issuer} failed: HTTP {answer.status_code} for the {what}")
        if not isinstance(document, dict):
            raise TokenUnavailable(f"issuer {self._issuer}: its {what} is not a JSON object")
        return document


@dataclass(frozen=True, slots=True)
class _Endpoint:
    url: str
    is_basic: bool


def _require_private(url: str) -> None:
    """Refuse a URL to which the client secret would travel in the clear."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("https", "http") and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigurationError(f"{printable(url)!r} is not an https URL")
    if parts.scheme == "http" and not is_local_url(url):
        raise InsecureTransport(f"{printable(url)} would get the client secret in the clear: use https")
