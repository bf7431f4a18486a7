"""How much of their quotas partners have used, for metrics: asked of the ledger in the background, never for a call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sluicegate.auth import Grant, Policy
from sluicegate.server.metering import agreement_account
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.state import Quota, StateError, Store

REFRESH_SECONDS = 15.0
"""As often as Prometheus asks, as it is commonly set."""


class QuotaFigures:
    """Keeps the metrics of quotas. One for the process; event loop only; `run` it in the background.

    An agreement is asked about from its first call on this replica until none of its quotas is in use any more, which
    is the next day at the latest. Callers without an agreement are many accounts: of them only refusals count.
    """

    def __init__(
        self,
        store: Store,
        policy: Callable[[], Policy],
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._policy = policy
        self._metrics = metrics
        self._sleep = sleep
        self._in_use: set[str] = set()
        self._shown: set[str] = set()

    def hear(self, grant: Grant, refused_by: Quota | None) -> None:
        """A call was counted in the ledger, or refused by this quota."""
        if refused_by is not None:
            partner = self._metrics.partner(grant.partner)
            self._metrics.quotas.refusals.labels(partner, refused_by.value).inc()
        if grant.agreement is not None:
            self._in_use.add(grant.agreement)

    async def run(self) -> None:
        """Ask again and again until cancelled."""
        while True:
            await self._sleep(REFRESH_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """Ask once. Where the ledger cannot be asked, the figures of before stay: its silence shows elsewhere."""
        asked, self._in_use = self._in_use, set()
        highest: dict[str, dict[str, float]] = {}
        policy = self._policy()
        try:
            for agreement in [policy.agreements[id_] for id_ in sorted(asked & policy.agreements.keys())]:
                usages = await self._store.usage(agreement_account(policy, agreement.id), agreement.quotas)
                of_partner = highest.setdefault(agreement.partner, {})
                for usage in usages:
                    ratio = usage.used / usage.limit
                    of_partner[usage.quota] = max(ratio, of_partner.get(usage.quota, 0.0))
                if any(usage.used for usage in usages):
                    self._in_use.add(agreement.id)
        except StateError:
            self._in_use |= asked
            return
        for partner in self._shown | highest.keys():
            self._metrics.quotas.take_used(self._metrics.partner(partner), highest.get(partner, {}))
        self._shown = set(highest)
