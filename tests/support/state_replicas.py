"""Replicas of a server that share one store of state, and a clock that all of them believe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from issuer import FakeClock

from sluicegate.auth import Quotas
from sluicegate.server.state import Account, Quota, Reservation, Store, Wanted, account, open_store

NEW_YORK = ZoneInfo("America/New_York")
LAB = account("agreement", "agr-example-lab-2026-01", zone=NEW_YORK)
LEASE_SECONDS = 30.0


def unix(text: str) -> float:
    """The time of an ISO 8601 text in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Replicas:
    """Opens replicas on one store; `clock` is the store's. It starts 20 seconds into a minute of New York's morning."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url = url
        self.clock = FakeClock(unix("2026-02-02T15:00:20"))
        self._stack = stack

    async def open(self) -> Store:
        store = await open_store(self.url, lease_seconds=LEASE_SECONDS, clock=self.clock)
        self._stack.push_async_callback(store.close)
        return store


@asynccontextmanager
async def sharing(url: str) -> AsyncIterator[Replicas]:
    """Replicas on the store of a URL, closed with the context."""
    async with AsyncExitStack() as stack:
        yield Replicas(url, stack)


async def reserved(store: Store, quotas: Quotas, wanted: Wanted, by: Account = LAB) -> Reservation:
    """A reservation that must be granted."""
    outcome = await store.reserve(by, quotas, wanted)
    assert isinstance(outcome, Reservation), outcome
    return outcome


async def used(store: Store, quotas: Quotas, by: Account = LAB) -> dict[Quota, int]:
    """What is used of each quota that has a limit."""
    return {usage.quota: usage.used for usage in await store.usage(by, quotas)}


FreshUrl = Callable[[], str]
"""Each call gives the URL of one more store in which nothing is."""
