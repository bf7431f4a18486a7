"""Quotas as calls meet them: reserved before the engine is asked, renewed while they run, settled however they end.

The ledger decides (state/ledger.py says how tokens are booked); this module says whose account a call is on, what it
wants, and what happens when the ledger cannot be asked: the policy's `on_state_lost`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from zoneinfo import ZoneInfo

import structlog

from sluicegate.auth import Audience, Grant, Policy, Quotas, Reason
from sluicegate.server.caller import Caller
from sluicegate.server.errors import CallRefused, QuotaFailure
from sluicegate.server.live import LiveCall
from sluicegate.server.output import Usage
from sluicegate.server.state import (
    Account,
    Quota,
    Refusal,
    Reservation,
    StateError,
    Store,
    Wanted,
    account,
)
from sluicegate.server.state import Usage as QuotaUsage

RENEWALS_A_LEASE = 3
STATE_RETRY_SECONDS = 2.0
PLACE_RETRY_SECONDS = 1.0  # a place among the concurrent streams comes free at no known time
NO_QUOTAS = Quotas()
UTC = ZoneInfo("UTC")
ANONYMOUS_PREFIX = {4: 32, 6: 64}  # of the networks that count as one anonymous caller

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Hold:
    """What one running call holds. `output_tokens`: for all candidates together; None where nothing limits them."""

    call: LiveCall
    usage: Usage
    output_tokens: int | None = None
    reservation: Reservation | None = None
    held_until: float = field(default=0.0)


def _tell_nobody(_grant: Grant, _refused_by: Quota | None) -> None:
    """Nobody wants to hear of calls."""


class Meter:
    """Keeps running calls within their quotas. One for the process; event loop only; `run` it in the background.

    `on_call` hears of every call that the ledger counted, or refused for want of room in a quota.
    """

    def __init__(
        self,
        store: Store,
        policy: Callable[[], Policy],
        *,
        on_call: Callable[[Grant, Quota | None], None] = _tell_nobody,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._policy = policy
        self._on_call = on_call
        self._clock = clock
        self._sleep = sleep
        self._holds: set[Hold] = set()

    @asynccontextmanager
    async def reserved(self, call: LiveCall, caller: Caller, usage: Usage, wanted: Wanted) -> AsyncIterator[Hold]:
        """Row 19: hold what the call wants, or as much of it as is left; settle by `usage` when the context is left.

        Raises CallRefused with the quota that has no room, or STATE_UNAVAILABLE where the ledger cannot be asked and
        the policy does not serve such callers without it.
        """
        hold = Hold(call, usage)
        if call.grant.quotas != NO_QUOTAS:
            await self._reserve(hold, caller, wanted)
        try:
            yield hold
        finally:
            await self._settle(hold, scored=wanted.scored_tokens)

    async def usage(self, caller: Caller, grant: Grant) -> tuple[QuotaUsage, ...]:
        """What is used of the quotas that a call under this grant would count against. Raises CallRefused."""
        try:
            return await self._store.usage(self._account(caller, grant), grant.quotas)
        except StateError as error:
            raise state_unavailable() from error

    async def run(self) -> None:
        """Renew what calls hold, several times in a lease, until cancelled."""
        while True:
            await self._sleep(self._store.lease_seconds / RENEWALS_A_LEASE)
            await self.renew()

    async def renew(self) -> None:
        """Renew once; end the calls that can no longer be sure of what they hold."""
        asked = self._clock()
        holds = {hold.reservation: hold for hold in self._holds if hold.reservation is not None}
        if not holds:
            return
        try:
            lapsed = await self._store.renew({each: hold.usage.output_tokens for each, hold in holds.items()})
        except StateError as error:
            log.error("reservations_not_renewed", calls=len(holds), error=type(error).__name__)
            lapsed = frozenset(each for each, hold in holds.items() if self._will_lapse(hold))
        else:
            for reservation in holds.keys() - lapsed:
                holds[reservation].held_until = asked + self._store.lease_seconds
        for reservation in lapsed:
            hold = holds[reservation]
            if hold not in self._holds:
                continue  # settled while the store was asked: it holds nothing any more
            self._holds.remove(hold)
            if not self._serves_without(hold.call.grant):
                hold.call.end(state_unavailable())

    def _will_lapse(self, hold: Hold) -> bool:
        """Whether the lease may be over before the next renewal is answered."""
        return self._clock() + self._store.lease_seconds / RENEWALS_A_LEASE >= hold.held_until

    async def _reserve(self, hold: Hold, caller: Caller, wanted: Wanted) -> None:
        grant, asked = hold.call.grant, self._clock()
        try:
            outcome = await self._store.reserve(self._account(caller, grant), grant.quotas, wanted)
        except StateError as error:
            log.error("quota_not_reserved", audience=grant.audience.value, error=type(error).__name__)
            if self._serves_without(grant):
                return
            raise state_unavailable() from error
        self._on_call(grant, outcome.usage.quota if isinstance(outcome, Refusal) else None)
        if isinstance(outcome, Refusal):
            raise _refused(outcome.usage, outcome.reason)
        hold.reservation, hold.held_until = outcome, asked + self._store.lease_seconds
        hold.output_tokens = outcome.output_tokens if wanted.output_tokens else None
        self._holds.add(hold)

    async def _settle(self, hold: Hold, *, scored: int) -> None:
        """Book what the call came to. If the store cannot be told, the lease lapses and all of it stays booked."""
        self._holds.discard(hold)
        if hold.reservation is None:
            return
        scored = scored if hold.usage.scored else 0
        try:
            await self._store.settle(hold.reservation, emitted=hold.usage.output_tokens, scored=scored)
        except StateError:
            log.warning("reservation_left_to_lapse", output_tokens=hold.reservation.output_tokens)

    def _serves_without(self, grant: Grant) -> bool:
        terms = self._policy().plan.on_state_lost
        return (terms.public if grant.audience is Audience.PUBLIC else terms.partner) == "serve"

    def _account(self, caller: Caller, grant: Grant) -> Account:
        """Partners are counted by agreement, others by issuer and client, anonymous callers by their network."""
        if grant.agreement is not None:
            return agreement_account(self._policy(), grant.agreement)
        if caller.principal.anonymous:
            return account("anonymous", _network(caller), zone=UTC)
        return account("client", caller.principal.issuer, caller.principal.client_id, zone=UTC)


def agreement_account(policy: Policy, id_: str) -> Account:
    """The account that all calls under an agreement are on. Its days are those of the agreement's time zone."""
    agreement = policy.agreements.get(id_)
    return account("agreement", id_, zone=agreement.timezone if agreement is not None else UTC)


def _network(caller: Caller) -> str:
    """A caller's network as a name that does not show it."""
    address = caller.peer.address
    if address is None:
        return "local"
    network = ip_network((address, ANONYMOUS_PREFIX[address.version]), strict=False)
    return hashlib.sha256(b"sluicegate/anonymous/v1 " + str(network).encode()).hexdigest()[:32]


def _refused(usage: QuotaUsage, reason: Reason) -> CallRefused:
    facts = {"quota": usage.quota.value, "limit": str(usage.limit), "used": str(usage.used)}
    wait = PLACE_RETRY_SECONDS if usage.resets_in_seconds is None else usage.resets_in_seconds
    return CallRefused(reason, facts, quota=QuotaFailure(usage.quota.value, usage.limit), retry_after_seconds=wait)


def state_unavailable() -> CallRefused:
    """The refusal of a call that needs the store when it cannot be asked."""
    return CallRefused(Reason.STATE_UNAVAILABLE, retry_after_seconds=STATE_RETRY_SECONDS)
