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
        self._made_of: tuple[Policy, Withdrawals] | None = None
        self._policy: Policy | None = None

    def __call__(self) -> Policy:
        """The policy now."""
        parts = (self._loaded(), self._withdrawals)
        if self._policy is None or self._made_of is None or any(a is not b for a, b in zip(parts, self._made_of)):  # noqa: B905
            self._made_of, self._policy = parts, parts[0].under(parts[1])
        return self._policy

    def narrow(self, withdrawals: Withdrawals) -> None:
        """Put these withdrawals in the place of those before."""
        self._withdrawals = withdrawals


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
        self._version: Version | None = None
        self._confirmed_at: float | None = None
        self._problem: str | None = None
        self.entries: tuple[Withdrawal, ...] = ()

    @property
    def age_seconds(self) -> float | None:
        """How long ago the store last confirmed the list; None before the first time."""
        return None if self._confirmed_at is None else self._clock() - self._confirmed_at

    async def refresh(self) -> None:
        """Ask the store now. Raises StateError and keeps the list, whose age then grows."""
        asked = self._clock()
        if self._version is None:
            self._take(await self._store.entries())
        elif (snapshot := await self._store.changes(self._version)) is not None:
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
        self._version, self.entries = snapshot.version, snapshot.entries
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
    found: dict[str, set[object]] = {name: set() for name in ("tokens", "keys", "clients", "subjects")}
    named: dict[str, set[str]] = {name: set() for name in ("agreements", "models", "stages")}
    issued_before: list[IssuedBefore] = []
    for entry in entries:
        match entry.target:
            case TokenTarget(issuer=issuer, jti=name):
                found["tokens"].add((issuer, name))
            case KeyTarget(issuer=issuer, kid=name):
                found["keys"].add((issuer, name))
            case ClientTarget(issuer=issuer, client=name):
                found["clients"].add((issuer, name))
            case SubjectTarget(issuer=issuer, subject=name):
                found["subjects"].add((issuer, name))
            case IssuedBeforeTarget() as target:
                issued_before.append(IssuedBefore(target.issuer, target.issued_before, target.client, target.subject))
            case AgreementTarget(agreement=name):
                named["agreements"].add(name)
            case ModelTarget(model=name):
                named["models"].add(name)
            case StageTarget(stage=name):
                named["stages"].add(name)
    return Withdrawals(
        issued_before=tuple(issued_before),
        **{name: frozenset(values) for name, values in (found | named).items()},  # type: ignore[arg-type]
    )
