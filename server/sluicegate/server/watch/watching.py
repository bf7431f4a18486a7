"""Asks all servers for their pages, side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import httpx

from sluicegate.server.errors import PageError, PageUnusable
from sluicegate.server.fetching import fetch_page
from sluicegate.server.observe.reading import ACCEPT, MAX_PAGE_BYTES, NotMetrics, read_page
from sluicegate.server.watch.figures import View, view_of
from sluicegate.server.watch.servers import Scrape, Server


class Watch:
    """The servers that are watched. `clock` gives monotonic seconds; each page must be there in `limit_seconds`."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        urls: Sequence[httpx.URL],
        *,
        limit_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.servers = [Server(url) for url in urls]
        self._client = client
        self._limit_seconds = limit_seconds
        self._clock = clock

    async def scrape(self) -> None:
        """Ask each server once. Raises PageUnusable for one that never was of use: its URL is wrong, say."""
        await asyncio.gather(*map(self._scrape, self.servers))

    def view(self) -> View:
        return view_of(self.servers)

    async def _scrape(self, server: Server) -> None:
        try:
            page = await fetch_page(
                self._client, server.url, accept=ACCEPT, limit_bytes=MAX_PAGE_BYTES, limit_seconds=self._limit_seconds
            )
            at = self._clock()
            # Reading a big page takes longer than a key press may wait.
            server.take(Scrape(at, await asyncio.to_thread(read_page, page)))
        except (PageError, NotMetrics) as error:
            if isinstance(error, PageUnusable | NotMetrics) and not server.has_answered:
                raise PageUnusable(f"{server.url}: {error}") from error
            server.fail(str(error))
