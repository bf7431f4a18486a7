"""The duty to report: which agreements ask for findings, when each one's next is due, and which partners are late."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sluicegate.auth import Agreement, Policy
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.state import FindingStatus, StateError, Store, list_under

REFRESH_SECONDS = 60.0
"""A duty is one of days: nobody is late by less than hours."""
_PAGE = 5
"""Findings read at once in search of one that was not rejected: nearly always the first."""


@dataclass(frozen=True, slots=True)
class FindingDuty:
    """What one agreement asks for. Times in Unix seconds.

    `last_at`: when the last finding was filed under it that was not rejected; None: none was.
    """

    agreement: str
    partner: str
    due_every_seconds: int
    last_at: float | None
    due_at: float
    is_overdue: bool


class FindingDuties:
    """Asks the store how duties stand. `policy` gives the policy in force, `clock` Unix seconds. Event loop only.

    Only agreements in force have duties, from the begin of their term on.
    """

    def __init__(self, store: Store, policy: Callable[[], Policy], clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock

    async def all(self) -> tuple[FindingDuty, ...]:
        """Every duty, by the agreement's id. Raises StateError."""
        found = [await self._of(agreement) for agreement in self._policy().agreements_in_force(self._clock())]
        return tuple(duty for duty in found if duty is not None)

    async def of(self, agreement: str) -> FindingDuty | None:
        """The duty of one agreement; None if it has none or is not in force. Raises StateError."""
        in_force = {each.id: each for each in self._policy().agreements_in_force(self._clock())}
        return await self._of(in_force[agreement]) if agreement in in_force else None

    async def _of(self, agreement: Agreement) -> FindingDuty | None:
        if agreement.findings is None:
            return None
        last_at = await self._last_at(agreement.id)
        begin, every = agreement.valid.from_.timestamp(), agreement.findings.due_every
        due_at = (begin if last_at is None else max(begin, last_at)) + every
        is_overdue = due_at < self._clock()
        return FindingDuty(agreement.id, agreement.partner, every, last_at, due_at, is_overdue)

    async def _last_at(self, agreement: str) -> float | None:
        async for filed in self._store.each_finding(list_under(agreement), page_size=_PAGE):
            if filed.status is not FindingStatus.REJECTED:
                return filed.finding.created_ms / 1000
        return None


class FindingFigures:
    """Keeps the metric of what is overdue. One for the process; event loop only; `run` it in the background."""

    def __init__(
        self,
        duties: FindingDuties,
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._duties = duties
        self._metrics = metrics
        self._sleep = sleep

    async def run(self) -> None:
        """Ask again and again until cancelled."""
        while True:
            await self.refresh()
            await self._sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Ask once. Where the store cannot be asked, the figures of before stay: its silence shows elsewhere."""
        try:
            duties = await self._duties.all()
        except StateError:
            return
        self._metrics.findings.take_overdue(Counter(duty.partner for duty in duties if duty.is_overdue))
