"""Where a model is loaded: in the engine's own thread, or beside it, so that other models go on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from sluicegate.server.engine.daemon import carry_out, in_daemon
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
    carry_out(work, future)
    return future


def in_thread(_load: Load, work: Callable[[], Runner]) -> Future[Runner]:
    """Load in a thread of its own: a load that never ends does not keep a failed engine from its exit."""
    return in_daemon(work, "load")
