"""What operators have closed, as this replica knows it, and the policy in force under it.

Each replica asks the store twice a second, so a withdrawal made anywhere counts here within one. A list that could not
be confirmed for some seconds counts as stale (row 17): what it may miss must not be served.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from sluicegate.auth import IssuedBefore, Policy, Withdrawals
from sluicegate.server.state import (
    AgreementTarget,
    ClientTarget,
    IssuedBeforeTarget,
    KeyTarget,
    ModelTarget,
    Snapshot,
    StageTarget,
    StateError,
    Store,
    SubjectTarget,
    TokenTarget,
    Version,
    Withdrawal,
)

POLL_SECONDS = 0.5

log = structlog.get_logger()


class PolicyInForce:
    """The loaded policy, narrowed by the withdrawals: the only policy that calls are judged by. Event loop only."""

    def __init__(self, loaded: Callable[[], Policy]) -> None:
        self._loaded = loaded
        self._withdrawals = Withdrawals()
        self._narrowed: tuple[Policy, Policy] | None = None  # as loaded, and what became of it

    def __call__(self) -> Policy:
        """The policy now."""
        loaded = self._loaded()
        if self._narrowed is None or self._narrowed[0] is not loaded:
            self._narrowed = (loaded, loaded.under(self._withdrawals))
        return self._narrowed[1]

    def narrow(self, withdrawals: Withdrawals) -> None:
        """Put these withdrawals in the place of those before."""
        self._withdrawals, self._narrowed = withdrawals, None


class WithdrawalWatch:
    """This replica's copy of the list. Event loop only; `run` it in the background.

    `on_change` hears of every new list, after it is in force.
    """

    def __init__(
        self,
        store: Store,
        in_force: PolicyInForce,
        *,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._in_force = in_force
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self._refreshing = asyncio.Lock()
        self._confirmed_at: float | None = None
        self._problem: str | None = None
        self.version: Version | None = None
        """Of the list; None before the first."""
        self.entries: tuple[Withdrawal, ...] = ()

    @property
    def age_seconds(self) -> float | None:
        """How long ago the store last confirmed the list; None before the first time."""
        return None if self._confirmed_at is None else self._clock() - self._confirmed_at

    async def refresh(self) -> None:
        """Ask the store now. Raises StateError and keeps the list, whose age then grows."""
        async with self._refreshing:  # of two answers that cross, the older one would open a door again
            asked = self._clock()
            if self.version is None:
                self._take(await self._store.entries())
            elif (snapshot := await self._store.changes(self.version)) is not None:
                self._take(snapshot)
            self._confirmed_at = asked

    async def run(self) -> None:
        """Ask twice a second until cancelled."""
        while True:
            await self._sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except StateError as error:
                self._tell(type(error).__name__)
            else:
                self._tell(None)

    def _take(self, snapshot: Snapshot) -> None:
        self.version, self.entries = snapshot.version, snapshot.entries
        self._in_force.narrow(as_withdrawals(snapshot.entries))
        log.info("withdrawals_loaded", entries=len(snapshot.entries), epoch=snapshot.version.epoch)
        self._on_change()

    def _tell(self, problem: str | None) -> None:
        """Log a problem once, and its end."""
        if problem != self._problem:
            self._problem = problem
            if problem is None:
                log.info("withdrawals_confirmed_again")
            else:
                log.error("withdrawals_not_confirmed", error=problem)


def as_withdrawals(entries: tuple[Withdrawal, ...]) -> Withdrawals:
    """The list as the decision sees it."""
    targets = [entry.target for entry in entries]
    return Withdrawals(
        tokens=frozenset((each.issuer, each.jti) for each in targets if isinstance(each, TokenTarget)),
        issued_before=tuple(
            IssuedBefore(each.issuer, each.issued_before, each.client, each.subject)
            for each in targets
            if isinstance(each, IssuedBeforeTarget)
        ),
        keys=frozenset((each.issuer, each.kid) for each in targets if isinstance(each, KeyTarget)),
        clients=frozenset((each.issuer, each.client) for each in targets if isinstance(each, ClientTarget)),
        subjects=frozenset((each.issuer, each.subject) for each in targets if isinstance(each, SubjectTarget)),
        agreements=frozenset(each.agreement for each in targets if isinstance(each, AgreementTarget)),
        models=frozenset(each.model for each in targets if isinstance(each, ModelTarget)),
        stages=frozenset(each.stage for each in targets if isinstance(each, StageTarget)),
    )
