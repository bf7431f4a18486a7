"""Keeps the newest head of this replica's audit log in the state store, away from who can write the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from sluicegate.server.audit import Head, parse_head
from sluicegate.server.errors import SettingsError
from sluicegate.server.state import StateError, Store

RETRY_SECONDS = 5.0

log = structlog.get_logger()


class Anchoring:
    """Event loop only; `run` it in the background."""

    def __init__(
        self, store: Store, replica: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._store = store
        self._replica = replica
        self._sleep = sleep
        self._head: Head | None = None
        self._news = asyncio.Event()

    async def kept(self) -> tuple[Head | None, tuple[Head, ...]]:
        """The head that was kept last under this replica's name, and all that were. Raises StateError, SettingsError.

        A log may have been written under another name before.
        """
        heads = {}
        for replica, text in (await self._store.anchors()).items():
            try:
                heads[replica] = parse_head(text)
            except ValueError:
                raise SettingsError([f"state: the head of the audit log of {replica} is not one of ours"]) from None
        return heads.get(self._replica), tuple(heads.values())

    def keep(self, head: Head) -> None:
        """Keep this head in the place of the one before, soon."""
        self._head = head
        self._news.set()

    async def run(self) -> None:
        """Keep what comes until cancelled; then what has come last, if the store still answers."""
        try:
            while True:
                await self._news.wait()
                if not await self._store_newest():
                    await self._sleep(RETRY_SECONDS)
        finally:
            if self._news.is_set():
                await self._store_newest()

    async def _store_newest(self) -> bool:
        head = self._head
        assert head is not None
        try:
            is_kept = await self._store.anchor(self._replica, head.log, str(head))
        except StateError as error:
            log.error("audit_head_not_anchored", error=type(error).__name__)
            return False
        if not is_kept:
            log.error(
                "audit_head_not_anchored", replica=self._replica, advice="another replica has this name: change one"
            )
        if head == self._head:
            self._news.clear()
        return True
