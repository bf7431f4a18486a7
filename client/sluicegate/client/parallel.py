"""Many calls at the same time: bounded, patient with quotas, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from sluicegate.client.errors import QuotaExceeded

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

_SHORTEST_WAIT_SECONDS = 0.05
"""A server that names no time at all must not be asked in a tight loop."""


async def for_each(items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]], concurrency: int) -> None:
    """Do the work on every item, `concurrency` of them at a time. The first error ends all, and is raised."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await work(item)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(worker())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def patiently(call: Callable[[], Awaitable[_Answer]], max_wait_seconds: float) -> _Answer:
    """The call's answer; asks again after the time that a quota names, up to the limit. Raises what the call raises."""
    while True:
        try:
            return await call()
        except QuotaExceeded as error:
            if error.retry_after is None or error.retry_after > max_wait_seconds:
                raise
            await asyncio.sleep(max(error.retry_after, _SHORTEST_WAIT_SECONDS))
