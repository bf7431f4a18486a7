"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from sluicegate.client.calls import cancelled
from sluicegate.client.errors import Cancelled, ConfigurationError

Result = TypeVar("Result")


class LoopThread:
    """An event loop in a thread, and the way to run a coroutine there from another one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, name="sluicegate-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The coroutine's result. If the waiting thread is interrupted, the coroutine is cancelled.

        Raises Cancelled if the loop is closed meanwhile, ConfigurationError if it was before.
        """
        with self._lock:
            if self._is_closed:
                work.close()
                raise ConfigurationError("the client is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise cancelled() from None
        except BaseException:
            future.cancel()
            raise

    def end(self, work: Coroutine[Any, Any, object]) -> None:
        """Run what ends something. Where the loop is closed, or closes meanwhile, that has ended it already."""
        with suppress(Cancelled, ConfigurationError):
            self.run(work)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the last coroutine, end what else runs, and join the thread; nothing the second time."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            ending = asyncio.run_coroutine_threadsafe(_end(last()), self._loop)
        ending.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end(last: Coroutine[Any, Any, None]) -> None:
    """A task that were left behind would keep the thread that waits for it waiting for ever."""
    await last
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
