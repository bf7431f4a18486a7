"""How the server stops: announce, wait, end what is left. Each step has a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import grpc
import structlog

from sluicegate.auth import Reason
from sluicegate.server import config
from sluicegate.server.catalog import Catalog
from sluicegate.server.live import LiveCalls
from sluicegate.server.rpc.health import HealthServicer

LAST_WORDS_SECONDS = 2.0
"""For the last statuses to reach clients that read."""

log = structlog.get_logger()


class Draining:
    """Takes the server out of service without cutting a stream before its time."""

    def __init__(
        self,
        server: grpc.aio.Server,
        health: HealthServicer,
        catalog: Catalog,
        live: LiveCalls,
        settings: config.Drain,
    ) -> None:
        self._server = server
        self._health = health
        self._catalog = catalog
        self._live = live
        self._settings = settings
        self.asked = asyncio.Event()
        """Set when an operator asks for a drain, which whoever runs the server then begins."""

    def ask(self) -> None:
        """Ask for a drain. Health tells of it at once."""
        self._health.stop_serving()
        self.asked.set()

    async def drain(self, hurry: asyncio.Event) -> None:
        """Stop serving. `hurry` ends both waits: whoever sets it wants the server gone now.

        1. Health says NOT_SERVING; calls are still taken, since balancers need a moment to see it.
        2. No new calls, and watches end. What else is under way, whatever it is, gets the grace period.
        3. What still runs ends with UNAVAILABLE, SERVER_DRAINING and its exact usage.
        """
        log.info("draining", live=len(self._live))
        self._health.stop_serving()
        await _first(hurry.wait(), asyncio.sleep(self._settings.announce_seconds))
        self._catalog.close()
        self._health.close()
        refusing = asyncio.create_task(self._server.stop(self._settings.grace_seconds + LAST_WORDS_SECONDS))
        await _first(hurry.wait(), asyncio.wait({refusing}), asyncio.sleep(self._settings.grace_seconds))
        if self._live:
            log.warning("streams_ended", live=len(self._live))
        self._live.end_all(Reason.SERVER_DRAINING)
        await self._server.stop(LAST_WORDS_SECONDS)
        await refusing
        log.info("drained")


async def _first(*waits: Coroutine[object, object, object]) -> None:
    """Wait until one of these is over; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
