"""Tells other replicas what this one has seen of each partner, and hears of theirs, through the state store.

Every life of a replica, from its start to its end, is a source of its own. So two replicas of one name do not overwrite
each other, and after a restart what was seen before is heard of as another's, until it has left the windows: nothing
is counted twice, and nothing has to be taken over.
"""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

import structlog

from sluicegate.server.signals.sketches import ExtractInvalid, Figures, Sketches
from sluicegate.server.state import Sketch, StateError, Store

EXCHANGE_SECONDS = 5.0
TOLD_SECONDS = 30.0
"""What was seen of one partner is put no more often: all of it goes, 58 KiB at most, and every replica reads it."""
LAST_WORD_SECONDS = 2.0
"""For what is still to be told when the server stops."""

_Result = TypeVar("_Result")

log = structlog.get_logger()


class OnThread(Protocol):
    """Runs work on the thread that the sketches belong to, and gives its result."""

    def __call__(self, work: Callable[[], _Result], /) -> Awaitable[_Result]: ...


class Exchanging:
    """Event loop only; `run` it in the background. The sketches are touched through `on_thread` alone.

    `clock` gives Unix seconds, `age_clock` any that never goes back. `on_figures` hears of the newest figures.
    """

    def __init__(
        self,
        store: Store,
        sketches: Sketches,
        on_thread: OnThread,
        *,
        on_figures: Callable[[Mapping[str, Figures]], None],
        clock: Callable[[], float] = time.time,
        age_clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._sketches = sketches
        self._on_thread = on_thread
        self._on_figures = on_figures
        self._clock = clock
        self._age_clock = age_clock
        self._sleep = sleep
        self._source = uuid.uuid4().hex
        self._after = 0
        self._untold: dict[str, bytes] = {}
        self._put_at: dict[str, float] = {}
        """When a partner's was put, by the clock of ages, if that was within TOLD_SECONDS."""
        self._exchanged_at: float | None = None
        self._problem: str | None = None
        self._unreadable: set[str] = set()
        self.refused = 0
        """Sketches of others that could not be read, since the start."""

    @property
    def age_seconds(self) -> float | None:
        """How long ago sketches were last exchanged; None before the first time."""
        return None if self._exchanged_at is None else self._age_clock() - self._exchanged_at

    async def run(self) -> None:
        """Exchange at once, then every EXCHANGE_SECONDS until cancelled; then tell what is left, if the store answers.

        While the store does not answer, figures go on with what was heard last. Whatever else fails is logged, and is
        tried again: signals are no reason to end a server. The age grows meanwhile.
        """
        try:
            while True:
                await self._turn()
                await self._sleep(EXCHANGE_SECONDS)
        finally:
            with suppress(StateError, TimeoutError):
                async with asyncio.timeout(LAST_WORD_SECONDS):
                    await self._put(least_seconds=0.0)

    async def exchange(self) -> None:
        """Put what has changed, and absorb what others have put. Raises StateError; what was not put comes again."""
        begun = self._age_clock()
        await self._put(least_seconds=TOLD_SECONDS)
        while (page := await self._store.sketches(self._source, self._after)).after != self._after:
            unreadable = await self._on_thread(functools.partial(self._absorb, page.sketches))
            self._after = page.after
            self._count(unreadable)
        self._exchanged_at = begun

    async def _turn(self) -> None:
        """Exchange, and show the figures. Raises nothing."""
        before, problem = self._exchanged_at, None
        try:
            try:
                await self.exchange()
            except StateError as error:
                problem = type(error).__name__
            self._on_figures(await self._figures())
        except Exception as error:  # the log has types and places only
            self._exchanged_at, problem = before, type(error).__name__
            if problem != self._problem:
                log.exception("signals_exchange_failed")
        self._tell(problem)

    async def _figures(self) -> dict[str, Figures]:
        """The figures of all partners. Each is work of its own, so that the texts which wait pass in between."""
        now = self._clock()
        partners = await self._on_thread(functools.partial(self._sketches.partners, now))
        return {
            partner: await self._on_thread(functools.partial(self._sketches.figures_of, partner, now))
            for partner in partners
        }

    async def _put(self, *, least_seconds: float) -> None:
        """Put what has changed of each partner of whom nothing was put for at least so long."""
        now, begun = self._clock(), self._age_clock()
        self._put_at = {partner: at for partner, at in self._put_at.items() if begun - at < least_seconds}
        for partner in await self._on_thread(functools.partial(self._sketches.untold, now)):
            if partner in self._put_at:
                continue
            data = await self._on_thread(functools.partial(self._sketches.changed_of, partner, now))
            if data is not None:
                self._untold[partner] = data
        await self._store.put_sketches(self._source, self._untold)
        self._put_at |= dict.fromkeys(self._untold, begun)
        self._untold = {}

    def _absorb(self, sketches: Sequence[Sketch]) -> list[tuple[str, str]]:
        """On the thread. The sources of what could not be read, and why not."""
        unreadable = []
        for each in sketches:
            try:
                self._sketches.absorb(each.source, each.partner, each.data)
            except ExtractInvalid as error:
                unreadable.append((each.source, str(error)))
        return unreadable

    def _count(self, unreadable: Sequence[tuple[str, str]]) -> None:
        """Count what could not be read, and log it once for all: a release being rolled out makes many."""
        self.refused += len(unreadable)
        for _, problem in unreadable:
            if problem not in self._unreadable:
                self._unreadable.add(problem)
                log.warning("signals_of_another_replica_unreadable", problem=problem)

    def _tell(self, problem: str | None) -> None:
        """Log a problem once, and its end."""
        if problem != self._problem:
            self._problem = problem
            if problem is None:
                log.info("signals_exchanged_again")
            else:
                log.error("signals_not_exchanged", error=problem)
