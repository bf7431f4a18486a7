"""The gate that every use case passes first: the policy's decision on a call, counted."""

from __future__ import annotations

import time
from collections.abc import Callable

from sluicegate.auth import AccessRequest, Denied, Grant, Policy, Principal, Reason, Standing
from sluicegate.server.caller import Call, Caller
from sluicegate.server.errors import CallRefused
from sluicegate.server.observe.access import NO_REASON
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.observe.tracing import Phase
from sluicegate.server.watermark import Keyring

LOOK_AGAIN_SECONDS = 15.0
"""A watch looks again after this long: nobody announces what time alone changes, such as an agreement's end, its hours
or the age of the withdrawals."""
NO_KEY = "no_key"
"""Cause of a refusal that no request can avoid: the server lacks what the policy or the agreement demands."""


class Gate:
    """Decides by the policy in force. `policy` gives the present revision, `clock` Unix seconds.

    `on_allowed` hears of each call that is let in; `keyring` has the keys of models whose output can be marked.
    """

    def __init__(
        self,
        policy: Callable[[], Policy],
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        *,
        withdrawals_age: Callable[[], float | None],
        on_allowed: Callable[[Caller, Grant], None] = lambda _caller, _grant: None,
        keyring: Keyring,
    ) -> None:
        self._keyring = keyring
        self._policy = policy
        self._withdrawals_age = withdrawals_age
        self._on_allowed = on_allowed
        self._metrics = metrics
        self._clock = clock

    @property
    def policy(self) -> Policy:
        return self._policy()

    def may_know(self, principal: Principal, model: str) -> bool:
        """Whether a caller may know that a model exists. A caller without a token may only where those are served."""
        policy = self._policy()
        if (principal.anonymous and not policy.serves_anonymous) or self.has_expired(principal):
            return False
        return model in policy.visible_models(principal, self._clock())

    def has_expired(self, principal: Principal) -> bool:
        """Whether a caller's token is over, on calls that last."""
        left = self.seconds_left(principal)
        return left is not None and left <= 0

    def seconds_left(self, principal: Principal) -> float | None:
        """How long a caller's token still lives; None without one."""
        return None if principal.anonymous else principal.expires_at - self._clock()

    def watch_seconds(self, principal: Principal) -> float:
        """How long a caller's watch may wait for changes before it looks again by itself."""
        left = self.seconds_left(principal)
        return LOOK_AGAIN_SECONDS if left is None or left <= 0 else min(left, LOOK_AGAIN_SECONDS)

    def now(self) -> float:
        return self._clock()

    def decide(self, caller: Caller, request: AccessRequest) -> Grant | Denied:
        """The policy's decision. A grant with a duty that this server cannot fulfil becomes a refusal (row 16)."""
        outcome = self._decide(caller, request)
        is_marked = isinstance(outcome, Grant) and request.action == "generate" and outcome.watermark
        if is_marked and self._keyring.marks(request.model) is None:
            return Denied(Reason.OUTPUT_TERMS_CONFLICT, {"term": "watermark", "cause": NO_KEY})
        return outcome

    def standing(self, caller: Caller, model: str | None = None) -> Standing:
        """As whom a caller reports on a model, or on none. Raises CallRefused with the first check that failed."""
        policy = self._policy()
        outcome = policy.standing(caller.principal, model, caller.peer, self._clock())
        if isinstance(outcome, Standing):
            denied = policy.check_age(outcome.audience, self._withdrawals_age())
            if denied is None:
                return outcome
            outcome = denied
        raise CallRefused(outcome.reason, outcome.detail)

    def check_caller(self, principal: Principal) -> Denied | None:
        """Rows 2 and 9: whether a caller is still let in at all, on calls that last."""
        return self._policy().check_caller(principal)

    def best(self, caller: Caller, model: str, *, action: str = "generate") -> Grant | Denied:
        """The decision on a plain call, with the best purpose that the caller could state."""
        agreement = self._policy().agreement_of(caller.principal)
        outcome: Grant | Denied | None = None
        for purpose in (None, *(agreement.purposes if agreement is not None else ())):
            request = AccessRequest(action, model, purpose, logprobs=action == "score")
            outcome = self.decide(caller, request)
            if isinstance(outcome, Grant):
                break
        assert outcome is not None
        return outcome

    def _decide(self, caller: Caller, request: AccessRequest) -> Grant | Denied:
        """Rows 12 to 17."""
        policy = self._policy()
        outcome = policy.decide(caller.principal, request, caller.peer, self._clock())
        if isinstance(outcome, Denied):
            return outcome
        return policy.check_age(outcome.audience, self._withdrawals_age()) or outcome

    def admit(self, call: Call, request: AccessRequest, *, counted_as: str) -> Grant:
        """The grant that the call runs under. Raises CallRefused with the first check that failed.

        `counted_as`: one of observe.access.ACTIONS.
        """
        model, caller = self._metrics.model(request.model), call.caller
        call.record.asks(counted_as, request)
        call.trace.begin(Phase.DECIDE)
        outcome = self._decide(caller, request) if counted_as == "tokenize" else self.decide(caller, request)
        call.trace.end()
        if isinstance(outcome, Denied):
            self._metrics.access.decisions.labels("denied", outcome.reason.value, model).inc()
            call.trace.describe(model=model)
            raise CallRefused(outcome.reason, outcome.detail)
        self._metrics.access.decisions.labels("allowed", NO_REASON, model).inc()
        partner = self._metrics.partner(outcome.partner)
        self._metrics.access.requests.labels(partner, model, counted_as).inc(exemplar=call.trace.exemplar)
        call.trace.describe(model=model, partner=partner, audience=outcome.audience.value)
        if outcome.outside_hours:
            self._metrics.access.offhours_requests.labels(partner).inc()
        self._on_allowed(caller, outcome)
        return outcome
