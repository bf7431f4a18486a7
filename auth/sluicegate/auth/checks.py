"""The checks of the decision order that belong to the policy, one function each: None, or why the call is refused.

Pure: no I/O, no clock, no state. decision.py puts them in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sluicegate.auth.agreements import Agreement
from sluicegate.auth.claiming import Claim
from sluicegate.auth.grant import AccessRequest, Denied, WatermarkTerm
from sluicegate.auth.principal import Audience, Peer, Principal
from sluicegate.auth.reasons import Reason
from sluicegate.auth.withdrawals import Withdrawals

if TYPE_CHECKING:
    from sluicegate.auth.policy import Policy

_NOTHING = Withdrawals()

_SCOPE_TEMPLATES = {"generate": ("generate:{model}",), "score": ("score:{model}", "logprobs:{model}")}


@dataclass(frozen=True, slots=True)
class Call:
    """Everything that one decision looks at."""

    policy: Policy
    principal: Principal
    request: AccessRequest
    peer: Peer
    now: float
    audience: Audience
    claim: Claim | None

    @property
    def terms(self) -> Agreement | None:
        return self.claim.agreement if self.claim is not None else None


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its row in the table, what it asks, and the denial if the answer is no."""

    row: int
    question: str
    test: Callable[[Call], Denied | None]
    of_withdrawals: bool = False
    """It says nothing where the policy is looked at without the list of withdrawals."""


def closed(policy: Policy) -> Withdrawals:
    """What is withdrawn, as far as the policy knows."""
    return policy.withdrawals or _NOTHING


def admitted(policy: Policy, principal: Principal) -> Denied | None:
    return Denied(Reason.TOKEN_MISSING) if principal.anonymous and not policy.serves_anonymous else None


def token_open(policy: Policy, principal: Principal) -> Denied | None:
    return Denied(Reason.TOKEN_WITHDRAWN) if closed(policy).close_token(principal) else None


def caller_open(policy: Policy, principal: Principal) -> Denied | None:
    return Denied(Reason.CALLER_WITHDRAWN) if closed(policy).close_caller(principal) else None


def scope(call: Call) -> Denied | None:
    """A caller without a token has no scopes; where it is served, it may generate and nothing else."""
    request = call.request
    templates = _SCOPE_TEMPLATES.get(request.action, (f"{request.action}:{{model}}",))
    if request.logprobs and "logprobs:{model}" not in templates:
        templates = (*templates, "logprobs:{model}")
    for template in templates:
        scope = template.replace("{model}", request.model)
        is_held = template == "generate:{model}" if call.principal.anonymous else scope in call.principal.scopes
        if not is_held or request.action not in _SCOPE_TEMPLATES:
            return Denied(Reason.SCOPE_MISSING, {"required_scope": scope})
    return None


def released(call: Call) -> Denied | None:
    """Says the same of a model that is closed, that the agreement leaves out, and that does not exist."""
    opened_to = call.policy.stage.open.get(call.request.model)
    is_open = opened_to is not None and opened_to <= call.audience
    if is_open and (call.claim is None or call.claim.names_model(call.request.model)):
        return None
    return Denied(Reason.MODEL_NOT_RELEASED, {"stage": call.policy.stage.id})


def agreement_given(call: Call) -> Denied | None:
    if call.request.partner_only and call.claim is None:
        return Denied(Reason.AGREEMENT_REQUIRED)
    return None


def agreement_known(call: Call) -> Denied | None:
    if call.claim is not None and call.claim.agreement is None:
        return Denied(Reason.AGREEMENT_UNKNOWN, {"agreement": call.claim.agreement_id})
    return None


def agreement_own(call: Call) -> Denied | None:
    terms, principal = call.terms, call.principal
    is_own = terms is None or terms.names(principal.issuer, principal.client_id)
    return _denied(call, None if is_own else Reason.AGREEMENT_CLIENT_MISMATCH)


def agreement_state(policy: Policy, terms: Agreement, principal: Principal, now: float) -> Reason | None:
    """Why this caller cannot use this agreement now; None if it can. Of another's agreement it tells nothing else."""
    if not terms.names(principal.issuer, principal.client_id):
        return Reason.AGREEMENT_CLIENT_MISMATCH
    return agreement_lapse(policy, terms, now)


def agreement_lapse(policy: Policy, terms: Agreement, now: float) -> Reason | None:
    """Why an agreement is not in force now, whoever asks; None if it is."""
    if terms.status != "active" or now < terms.valid.from_.timestamp():
        return Reason.AGREEMENT_NOT_ACTIVE
    if now >= terms.valid.until.timestamp():
        return Reason.AGREEMENT_EXPIRED
    if terms.id in closed(policy).agreements:
        return Reason.AGREEMENT_WITHDRAWN
    return None


def agreement_holds(call: Call) -> Denied | None:
    terms = call.terms
    return _denied(call, agreement_state(call.policy, terms, call.principal, call.now) if terms is not None else None)


def purpose(call: Call) -> Denied | None:
    is_permitted = call.claim is None or call.claim.permits_purpose(call.request.purpose)
    return _denied(call, None if is_permitted else Reason.PURPOSE_NOT_PERMITTED)


def action(call: Call) -> Denied | None:
    is_permitted = call.claim is None or call.claim.permits_action(call.request.action)
    return _denied(call, None if is_permitted else Reason.ACTION_NOT_PERMITTED)


def network(call: Call) -> Denied | None:
    networks = call.terms.networks if call.terms is not None else ()
    address = call.peer.address
    is_inside = not networks or (address is not None and any(address in network for network in networks))
    return _denied(call, None if is_inside else Reason.NETWORK_NOT_PERMITTED)


def is_outside_hours(terms: Agreement, now: float) -> bool:
    return terms.hours is not None and not terms.hours.include(datetime.fromtimestamp(now, terms.timezone))


def hours(call: Call) -> Denied | None:
    terms = call.terms
    is_enforced = terms is not None and terms.hours is not None and terms.hours.mode == "enforce"
    is_outside = terms is not None and is_enforced and is_outside_hours(terms, call.now)
    return _denied(call, Reason.OUTSIDE_HOURS if is_outside else None)


def _denied(call: Call, reason: Reason | None) -> Denied | None:
    if reason is None or call.claim is None:
        return None
    return Denied(reason, {"agreement": call.claim.agreement_id})


def token_lifetime(call: Call) -> Denied | None:
    maximum = call.terms.token.max_lifetime if call.terms is not None else None
    if maximum is None or call.principal.expires_at - call.principal.issued_at <= maximum:
        return None
    return Denied(Reason.TOKEN_LIFETIME_EXCESSIVE, {"max_lifetime_seconds": str(maximum)})


def token_binding(call: Call) -> Denied | None:
    is_required = call.terms is not None and call.terms.token.binding == "mtls"
    bound_to = call.principal.certificate_thumbprint
    if is_required and (bound_to is None or bound_to != call.peer.certificate_thumbprint):
        return Denied(Reason.TOKEN_BINDING_REQUIRED)
    return None


def step_up(call: Call) -> Denied | None:
    if call.terms is None:
        return None
    terms, principal = call.terms.token, call.principal
    is_fresh = terms.max_auth_age is None or (
        principal.authenticated_at is not None and call.now - principal.authenticated_at <= terms.max_auth_age
    )
    if is_fresh and (not terms.acr or principal.acr in terms.acr):
        return None
    detail = {"acr_values": " ".join(terms.acr)} if terms.acr else {}
    if terms.max_auth_age is not None:
        detail["max_age"] = str(terms.max_auth_age)
    return Denied(Reason.STEP_UP_REQUIRED, detail)


def output_terms(call: Call) -> Denied | None:
    """Only generated text is under output terms: a score says nothing that the caller did not write."""
    request = call.request
    if request.action != "generate":
        return None
    if watermark(call) == "required" and request.greedy:
        return Denied(Reason.OUTPUT_TERMS_CONFLICT, {"term": "watermark"})
    is_redacted = call.terms is not None and call.terms.output.redaction != "none"
    if is_redacted and (request.token_bytes or request.logprobs):
        return Denied(Reason.OUTPUT_TERMS_CONFLICT, {"term": "redaction"})
    return None


def watermark(call: Call) -> WatermarkTerm:
    """Whether the call's output is to be marked: by the agreement that it is under, and for the public by the model."""
    if call.terms is not None:
        return call.terms.output.watermark
    entry = call.policy.plan.models.get(call.request.model)
    return entry.watermark if entry is not None and call.audience is Audience.PUBLIC else "none"
