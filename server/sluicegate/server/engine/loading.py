"""Where a model is loaded: in the engine's own thread, or beside it, so that other models go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from sluicegate.server.engine.messages import Load
from sluicegate.server.engine.runner import Runner

Start = Callable[[Load, Callable[[], Runner]], "Future[Runner]"]
"""Begins the work of a load; the future has its runner, or what it raised."""


@dataclass(frozen=True, slots=True)
class Loading:
    """A load under way, and who asked for it. `began` in the loop's seconds."""

    front_end: str
    load: Load
    began: float
    runner: Future[Runner]


def in_loop(_load: Load, work: Callable[[], Runner]) -> Future[Runner]:
    """Load at once. The other models stand still meanwhile."""
    future: Future[Runner] = Future()
    _carry_out(work, future)
    return future


def in_thread(_load: Load, work: Callable[[], Runner]) -> Future[Runner]:
    """Load in a thread of its own. A daemon: a load that never ends must not keep a failed engine from its exit."""
    future: Future[Runner] = Future()
    threading.Thread(target=_carry_out, args=(work, future), name="load", daemon=True).start()
    return future


def _carry_out(work: Callable[[], Runner], future: Future[Runner]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # whoever takes the future decides what becomes of it
        future.set_exception(error)
