"""The thread that looks at texts: recognisers and sketches take time that the event loop does not have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

MOST_WAITING = 4_096
"""Pieces of work that wait, each a prompt or some dozens of tokens."""

_Result = TypeVar("_Result")

log = structlog.get_logger()


class Watcher:
    """One thread, with a queue before it that has an end. Its methods are for the event loop only.

    All work is done in the order in which it came, by one thread: what only that work touches needs no lock.
    """

    def __init__(self, *, most_waiting: int = MOST_WAITING) -> None:
        self._most_waiting = most_waiting
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="signals")
        self._is_closed = False
        self._put = 0  # counted by the event loop
        self._done = 0  # counted by the thread

    def put(self, work: Callable[[], object]) -> bool:
        """Have work done soon; gives False, and has it not done, where too much waits already, or once it is closed."""
        if self._is_closed or self._put - self._done >= self._most_waiting:
            return False
        self._put += 1
        self._executor.submit(self._do, work)
        return True

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """What the work gives or raises, once all that came before it is done."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def close(self, limit_seconds: float) -> bool:
        """Do what waits, for so long at most; gives whether all of it was done."""
        try:
            async with asyncio.timeout(limit_seconds):
                await self.run(lambda: None)
        except TimeoutError:
            return False
        finally:
            self._is_closed = True
            self._executor.shutdown(wait=False, cancel_futures=True)
        return True

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:
            log.exception("signal_failed")  # with types and places only: the text of an exception may quote a prompt
        finally:
            self._done += 1
