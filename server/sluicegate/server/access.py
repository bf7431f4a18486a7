"""The use case of asking about oneself: who the server takes the caller to be, and what it would let it do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluicegate.auth import AccessRequest, Audience, CallerIdentity, Denied, Grant, Reason
from sluicegate.server.caller import Caller
from sluicegate.server.errors import CallRefused
from sluicegate.server.finding_duties import FindingDuties, FindingDuty
from sluicegate.server.gate import Gate
from sluicegate.server.metering import Meter
from sluicegate.server.state import StateError

REMEDIES: Mapping[Reason, str] = {
    Reason.TOKEN_MISSING: "Send an access token.",
    Reason.TOKEN_WITHDRAWN: "A new token, unless its key or all tokens of the client were withdrawn.",
    Reason.CALLER_WITHDRAWN: "Nothing, until the operator admits the caller again.",
    Reason.SCOPE_MISSING: "A token with the scope `{required_scope}`.",
    Reason.MODEL_NOT_RELEASED: "A stage that opens the model to this caller, or an agreement that covers it.",
    Reason.MODEL_WITHDRAWN: "Nothing, until the operator opens the model again.",
    Reason.AGREEMENT_REQUIRED: "An agreement with the operator.",
    Reason.AGREEMENT_UNKNOWN: "A token that names an agreement on file.",
    Reason.AGREEMENT_NOT_ACTIVE: "The operator activating the agreement, or the begin of its term.",
    Reason.AGREEMENT_EXPIRED: "A renewal of the agreement.",
    Reason.AGREEMENT_WITHDRAWN: "Nothing, until the operator opens the agreement again.",
    Reason.AGREEMENT_CLIENT_MISMATCH: "A client that the agreement names.",
    Reason.PURPOSE_NOT_PERMITTED: "Stating a purpose that the agreement covers.",
    Reason.ACTION_NOT_PERMITTED: "An agreement that covers the action.",
    Reason.NETWORK_NOT_PERMITTED: "A call from a network that the agreement covers.",
    Reason.OUTSIDE_HOURS: "A call within the agreement's hours.",
    Reason.TOKEN_LIFETIME_EXCESSIVE: "A token that lives at most {max_lifetime_seconds} seconds.",
    Reason.TOKEN_BINDING_REQUIRED: "A token bound to the client certificate of the connection (RFC 8705).",
    Reason.STEP_UP_REQUIRED: "A stronger or fresher authentication (RFC 9470).",
    Reason.WITHDRAWALS_STALE: "Nothing: the server has lost sight of what operators closed. Try again later.",
    Reason.OUTPUT_TERMS_CONFLICT: "A request that the terms for output allow: see `term`.",
}
"""What would let a call through, for every reason that a decision can give (rows 12 to 17)."""


@dataclass(frozen=True, slots=True)
class CheckedAccess:
    """A decision that was asked for without a call. `grant` and `denied`: exactly one is there."""

    audience: Audience
    grant: Grant | None = None
    denied: Denied | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class QuotaView:
    """One quota that has a limit, by its name in `Quotas`. `resets_at`: Unix seconds; None where it has no window."""

    name: str
    limit: int
    used: int
    resets_at: float | None


class Access:
    """Answers callers about themselves. Counts nothing and changes nothing."""

    def __init__(self, gate: Gate, meter: Meter, duties: FindingDuties) -> None:
        self._gate = gate
        self._meter = meter
        self._duties = duties

    def identify(self, caller: Caller) -> CallerIdentity:
        """What the server knows of the caller."""
        return self._gate.policy.identify(caller.principal)

    async def duty(self, identity: CallerIdentity) -> FindingDuty | None:
        """The duty to report of a caller's agreement; None without one, and while nobody can tell how it stands."""
        if identity.agreement is None:
            return None
        try:
            return await self._duties.of(identity.agreement.id)
        except StateError:
            return None

    def check(self, caller: Caller, request: AccessRequest) -> CheckedAccess:
        """The decision on a call, without making it."""
        outcome = self._gate.decide(caller, request)
        if isinstance(outcome, Grant):
            return CheckedAccess(outcome.audience, grant=outcome)
        remedy = REMEDIES[outcome.reason].format_map(outcome.detail)
        return CheckedAccess(self._gate.policy.audience_of(caller.principal), denied=outcome, remedy=remedy)

    async def quotas(self, caller: Caller, model: str) -> tuple[tuple[QuotaView, ...], str | None]:
        """The quotas that calls to this model count against, and the agreement that sets them.

        Raises CallRefused for a model that the caller may neither generate with nor score.
        """
        outcome = self._gate.best(caller, model)
        if isinstance(outcome, Denied):
            scoring = self._gate.best(caller, model, action="score")
            if isinstance(scoring, Denied):
                raise CallRefused(outcome.reason, outcome.detail)
            outcome = scoring
        used = {usage.quota.value: usage for usage in await self._meter.usage(caller, outcome)}
        now = self._gate.now()
        views = []
        for name, limit in outcome.quotas:
            if limit is not None:
                usage = used.get(name)
                resets = usage.resets_in_seconds if usage is not None else None
                resets_at = now + resets if resets is not None else None
                views.append(QuotaView(name, limit, usage.used if usage is not None else 0, resets_at))
        return tuple(views), outcome.agreement
