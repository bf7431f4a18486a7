"""What the policy in force comes to, for metrics: its revision and stage, what is open, when agreements end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from sluicegate.auth import Audience, Policy, Withdrawals
from sluicegate.server.observe.metrics import Metrics

REFRESH_SECONDS = 15.0
"""A partner's next end becomes another one when the one before has come, without any change of policy."""


class PolicyFigures:
    """Keeps the metrics of the policy. Event loop only; `run` it in the background. `clock` gives Unix seconds."""

    def __init__(
        self,
        policy: Callable[[], Policy],
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = policy
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep

    def show(self) -> None:
        """Show the policy as it is now; the series of the revision before are gone."""
        policy, control = self._policy(), self._metrics.control
        control.policy_info.info({"revision": policy.shown_revision, "stage": policy.stage.id})
        control.take_open(self._metrics.labels.models, opened(policy))
        control.take_expiries(expiries(policy, self._clock()))
        control.take_withdrawals(withdrawn(policy))

    async def run(self) -> None:
        """Show it again and again until cancelled."""
        while True:
            await self._sleep(REFRESH_SECONDS)
            self.show()


def opened(policy: Policy) -> Mapping[str, Audience]:
    """The models that the stage in force opens and that are not withdrawn, with the widest audience of each."""
    return {model: audience for model, audience in policy.stage.open.items() if not policy.is_withdrawn(model)}


def withdrawn(policy: Policy) -> Mapping[str, int]:
    """How many of each kind operators have closed, by the names of state.KINDS; what is closed twice counts once."""
    closed = policy.withdrawals or Withdrawals()
    return {
        "token": len(closed.tokens),
        "issued_before": len(closed.issued_before),
        "client": len(closed.clients),
        "subject": len(closed.subjects),
        "key": len(closed.keys),
        "agreement": len(closed.agreements),
        "model": len(closed.models),
        "stage": len(closed.stages),
    }


def expiries(policy: Policy, now: float) -> Mapping[str, float]:
    """When each partner's next agreement ends, in Unix seconds: the first end to come, else the last that has come.

    Only agreements that are active and not withdrawn count. A partner without one is left out.
    """
    closed = (policy.withdrawals or Withdrawals()).agreements
    ends: dict[str, list[float]] = {}
    for agreement in policy.agreements.values():
        if agreement.status == "active" and agreement.id not in closed:
            ends.setdefault(agreement.partner, []).append(agreement.valid.until.timestamp())
    return {partner: min((end for end in of if end > now), default=max(of)) for partner, of in ends.items()}
