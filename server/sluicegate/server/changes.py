"""Something has changed: wakes whoever watches, without saying what."""

from __future__ import annotations

import asyncio


class Changes:
    """A counter that can be waited for. Event loop only; no change is missed between two waits."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()

    def announce(self) -> None:
        """Wake all who wait."""
        self.count += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def beyond(self, count: int, seconds: float | None = None) -> int:
        """Wait until there were more changes than `count`, or that long; gives how many there are now."""
        try:
            async with asyncio.timeout(seconds):
                while self.count <= count:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.count
