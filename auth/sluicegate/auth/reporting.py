"""As whom a caller reports on models: rows 13 to 15 of the decision order, for calls that use none.

Pure: no I/O, no clock, no state. Whoever claims an agreement reports under it, and only while it holds and the call
meets its networks and its terms for tokens: what a partner reports can open a stage. Purposes, actions and hours limit
the use of models, and are not asked about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluicegate.auth import checks
from sluicegate.auth.agreements import Agreement
from sluicegate.auth.checks import Call
from sluicegate.auth.claiming import audience_among, best_claim, claims_of
from sluicegate.auth.grant import AccessRequest, Denied
from sluicegate.auth.principal import Audience, Peer, Principal
from sluicegate.auth.reasons import Reason

if TYPE_CHECKING:
    from sluicegate.auth.policy import Policy


@dataclass(frozen=True, slots=True)
class Standing:
    """As whom a caller reports. `partner`: the partner's name, `public` or `internal`."""

    audience: Audience
    partner: str
    agreement: Agreement | None


def standing(policy: Policy, principal: Principal, model: str | None, peer: Peer, now: float) -> Standing | Denied:
    """As whom a caller reports on a model that it must be able to know of, or on none; or the first check that failed.

    Its own scope, and rows 2 and 9, are the business of `decision.check_scope`.
    """
    request = AccessRequest("report", model or "")
    claims = claims_of(policy, principal)
    claim, audience = best_claim(claims, request), audience_among(policy, principal, claims)
    call = Call(policy, principal, request, peer, now, audience, claim)
    for test in _CHECKS:
        if (test is not _known or model is not None) and (denied := test(call)) is not None:
            return denied
    if call.terms is not None:
        return Standing(audience, call.terms.partner, call.terms)
    return Standing(audience, "internal" if audience is Audience.INTERNAL else "public", None)


def _known(call: Call) -> Denied | None:
    """As `checks.released`, but that a model open to the public may be reported on by partners of other models."""
    opened_to = call.policy.stage.open.get(call.request.model)
    is_open = opened_to is not None and opened_to <= call.audience
    is_covered = call.claim is None or call.claim.names_model(call.request.model)
    if is_open and (is_covered or opened_to is Audience.PUBLIC or call.audience is Audience.INTERNAL):
        return None
    return Denied(Reason.MODEL_NOT_RELEASED, {"stage": call.policy.stage.id})


_CHECKS = (
    checks.agreement_known,
    checks.agreement_own,
    _known,
    checks.agreement_holds,
    checks.network,
    checks.token_lifetime,
    checks.token_binding,
    checks.step_up,
)
