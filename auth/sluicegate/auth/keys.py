"""Where verification keys come from, and the ring that keeps the last good set fresh in the background.

Nothing here runs on the path of a request: `find` is a dictionary look-up, and an unknown key only asks the
background task to look again.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

import httpx

from sluicegate.auth.errors import KeySetError
from sluicegate.auth.fetching import checked_url, fetch_document
from sluicegate.auth.jwk import MAX_KEY_SET_BYTES, VerificationKey, parse_key_set

URL_REFRESH_SECONDS = 300.0
FILE_REFRESH_SECONDS = 1.0
REFRESH_JITTER = 0.1
REQUESTED_REFRESH_SECONDS = 30.0
STALE_AFTER_SECONDS = 24 * 3600.0

JWKS_TYPES = "application/jwk-set+json, application/json"
"""Media types of a key set (RFC 7517, section 8.5), for `accept`."""

_TICK_SECONDS = 1.0


class KeySetOrigin(Protocol):
    """A place that publishes a key set: a file, a URL, a discovery document."""

    @property
    def refresh_seconds(self) -> float:
        """How often it is worth asking."""

    async def fetch(self) -> bytes:
        """The set as published now. Raises KeySetError if it cannot be had."""


class JwksFile:
    """A JWKS file, read again every second so that a change in it counts at once."""

    refresh_seconds = FILE_REFRESH_SECONDS

    def __init__(self, path: Path) -> None:
        self._path = path

    async def fetch(self) -> bytes:
        try:
            return await asyncio.to_thread(self._read)
        except OSError as error:
            raise KeySetError(f"{self._path}: {error.strerror}") from error

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(MAX_KEY_SET_BYTES + 1)


class JwksUrl:
    """A JWKS URL: https, or http on this host only. Follows no redirect and reads no proxy settings.

    `tls` is for issuers behind a private certificate authority.
    """

    refresh_seconds = URL_REFRESH_SECONDS

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = checked_url(url, "a JWKS URL")
        self._tls = tls
        self._transport = transport

    async def fetch(self) -> bytes:
        return await fetch_document(self._url, accept=JWKS_TYPES, tls=self._tls, transport=self._transport)


class KeyRing:
    """The last good key set of one origin. Event loop only.

    `refresh` loads it now; `run` keeps it fresh until cancelled. A set that cannot be fetched or is refused
    leaves the last good one in force for 24 hours; after that, and before the first, the ring is stale.
    """

    def __init__(
        self,
        origin: KeySetOrigin,
        *,
        on_failure: Callable[[KeySetError], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = lambda: random.uniform(1 - REFRESH_JITTER, 1 + REFRESH_JITTER),  # noqa: S311
    ) -> None:
        self._origin = origin
        self._on_failure = on_failure
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._raw: bytes | None = None
        self._keys: Mapping[str, VerificationKey] = {}
        self._confirmed_at: float | None = None
        self._next_regular = clock()
        self._next_requested = clock()
        self._is_requested = False

    def find(self, key_id: str) -> VerificationKey | None:
        """The key of this `kid` in the last good set."""
        return self._keys.get(key_id)

    @property
    def key_ids(self) -> tuple[str, ...]:
        return tuple(self._keys)

    @property
    def age_seconds(self) -> float | None:
        """How long ago the origin last gave a good set; None before the first."""
        return None if self._confirmed_at is None else self._clock() - self._confirmed_at

    @property
    def is_stale(self) -> bool:
        age = self.age_seconds
        return age is None or age > STALE_AFTER_SECONDS

    def request_refresh(self) -> None:
        """Ask for a refresh ahead of time, since a key is unknown; at most one in 30 s follows."""
        self._is_requested = True

    async def refresh(self) -> None:
        """Load the set now. Raises KeySetError and keeps the last good set if that fails."""
        self._next_regular = self._clock() + self._origin.refresh_seconds * self._jitter()
        raw = await self._origin.fetch()
        if raw != self._raw:
            self._keys = parse_key_set(raw)
            self._raw = raw
        self._confirmed_at = self._clock()

    async def refresh_if_due(self) -> None:
        """Refresh if the regular time has come, or an earlier one was requested and may be had."""
        now = self._clock()
        requested = self._is_requested and now >= self._next_requested
        if not requested and now < self._next_regular:
            return
        if requested:
            self._next_requested = now + REQUESTED_REFRESH_SECONDS
        self._is_requested = False
        try:
            await self.refresh()
        except KeySetError as error:
            self._on_failure(error)

    async def run(self) -> None:
        """Keep the set fresh until cancelled."""
        while True:
            await self.refresh_if_due()
            await self._sleep(_TICK_SECONDS)
