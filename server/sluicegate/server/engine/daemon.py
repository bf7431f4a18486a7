"""Work in a thread of its own that the end of the process does not wait for: what blocks may block for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_daemon(work: Callable[[], Result], name: str) -> Future[Result]:
    """Begin the work; the future has its result, or what it raised, and cannot be cancelled."""
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()
    threading.Thread(target=carry_out, args=(work, future), name=name, daemon=True).start()
    return future


async def to_daemon(work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
    """What the work gives or raises. As asyncio.to_thread, whose threads a process joins at its end."""
    return await asyncio.wrap_future(in_daemon(lambda: work(*args, **kwargs), getattr(work, "__name__", "daemon")))


def carry_out(work: Callable[[], Result], future: Future[Result]) -> None:
    """Do the work, here."""
    try:
        future.set_result(work())
    except BaseException as error:  # whoever takes the future decides what becomes of it
        future.set_exception(error)
