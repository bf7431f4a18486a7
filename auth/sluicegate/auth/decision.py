"""The decision: who a caller comes as, and the checks of the decision order that belong to the policy.

Pure: no I/O, no clock, no state. `CHECKS` is the order; the first that fails gives the reason. The table with
every row is in docs/access.md, and tests/auth/decision_table.yaml runs it case by case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from sluicegate.auth.agreements import Agreement
from sluicegate.auth.grant import AccessRequest, CheckOutcome, Denied, Grant, Quotas
from sluicegate.auth.principal import Audience, AuthorizationDetail, Peer, Principal
from sluicegate.auth.reasons import Reason

if TYPE_CHECKING:
    from sluicegate.auth.policy import Policy

ANONYMOUS_CALL_SECONDS = 3600
"""How long one call without a token may last: as long as the longest token."""

_SCOPE_TEMPLATES = {"generate": ("generate:{model}",), "score": ("score:{model}", "logprobs:{model}")}


@dataclass(frozen=True, slots=True)
class Claim:
    """The agreement that a caller claims: by a detail of its token, or by its client's name alone."""

    agreement_id: str
    agreement: Agreement | None
    """None if the policy has no such agreement."""
    detail: AuthorizationDetail | None
    """None for a claim by name."""

    def names_model(self, model: str) -> bool:
        """Whether neither agreement nor token leaves the model out."""
        return (self.agreement is None or model in self.agreement.models) and (
            self.detail is None or self.detail.models is None or model in self.detail.models
        )

    def permits_action(self, action: str) -> bool:
        return (self.agreement is None or action in self.agreement.actions) and (
            self.detail is None or self.detail.actions is None or action in self.detail.actions
        )

    def permits_purpose(self, purpose: str | None) -> bool:
        """The token may state the purpose for its calls, but a call cannot have another than its token."""
        if self.detail is not None and self.detail.purpose is not None:
            if purpose not in (None, self.detail.purpose):
                return False
            purpose = self.detail.purpose
        return self.agreement is None or not self.agreement.purposes or purpose in self.agreement.purposes

    def fit(self, request: AccessRequest) -> tuple[bool, bool, bool]:
        return (
            self.names_model(request.model),
            self.permits_action(request.action),
            self.permits_purpose(request.purpose),
        )


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


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """What a caller may be told about itself."""

    audience: Audience
    agreement: Agreement | None
    """The claimed agreement, only if it names this client: nobody reads another's terms."""
    scopes: frozenset[str]
    stage: str
    policy_revision: str


def decide(policy: Policy, principal: Principal, request: AccessRequest, peer: Peer, now: float) -> Grant | Denied:
    """Grant the call its limits, or say which check failed first."""
    call = _call(policy, principal, request, peer, now)
    for check in CHECKS:
        if denied := check.test(call):
            return denied
    return _grant(call)


def explain(
    policy: Policy, principal: Principal, request: AccessRequest, peer: Peer, now: float
) -> tuple[CheckOutcome, ...]:
    """Each check in order with its outcome; checks after the first failure are not reached."""
    call = _call(policy, principal, request, peer, now)
    outcomes: list[CheckOutcome] = []
    failed = False
    for check in CHECKS:
        denied = None if failed else check.test(call)
        outcomes.append(CheckOutcome(check.row, check.question, None if failed else denied is None, denied))
        failed = failed or denied is not None
    return tuple(outcomes)


def check_scope(policy: Policy, principal: Principal, scope: str | None) -> Denied | None:
    """Rows 2 and 12 for a method that is about no model."""
    if principal.anonymous and not policy.serves_anonymous:
        return Denied(Reason.TOKEN_MISSING)
    if scope is not None and scope not in principal.scopes:
        return Denied(Reason.SCOPE_MISSING, {"required_scope": scope})
    return None


def identify(policy: Policy, principal: Principal) -> CallerIdentity:
    claims = _claims(policy, principal)
    own = [
        claim.agreement
        for claim in claims
        if claim.agreement is not None and claim.agreement.names(principal.issuer, principal.client_id)
    ]
    return CallerIdentity(
        audience=_audience(policy, principal, claims),
        agreement=own[0] if own else None,
        scopes=principal.scopes,
        stage=policy.stage.id,
        policy_revision=policy.revision,
    )


def visible_models(policy: Policy, principal: Principal, now: float) -> tuple[str, ...]:
    """Public models; all that are open to an internal caller; a partner's own while its agreement holds."""
    claims = _claims(policy, principal)
    audience = _audience(policy, principal, claims)
    known: set[str] = set()
    for claim in claims:
        terms = claim.agreement
        if terms is not None and _agreement_state(terms, principal, now) is None:
            known.update(model for model in terms.models if claim.names_model(model))
    return tuple(
        model
        for model in policy.plan.models
        if (opened_to := policy.stage.open.get(model)) is not None
        and opened_to <= audience
        and (opened_to is Audience.PUBLIC or audience is Audience.INTERNAL or model in known)
    )


def _call(policy: Policy, principal: Principal, request: AccessRequest, peer: Peer, now: float) -> Call:
    """The call with who its caller comes as.

    A claim by name that does not carry this call makes the caller public where the model is; a claim by token
    stands or falls.
    """
    claims = _claims(policy, principal)
    claim = max(claims, key=lambda each: each.fit(request)) if claims else None
    audience = _audience(policy, principal, claims)
    call = Call(policy, principal, request, peer, now, audience, claim)
    may_fall_back = (
        claim is not None
        and claim.detail is None
        and audience is Audience.PARTNER
        and not request.partner_only
        and policy.stage.open.get(request.model) is Audience.PUBLIC
    )
    if may_fall_back and any(check.test(call) for check in CHECKS if check.row in _ROWS_OF_THE_CLAIM):
        return replace(call, audience=Audience.PUBLIC, claim=None)
    return call


def _claims(policy: Policy, principal: Principal) -> list[Claim]:
    """Every agreement that the token names, else every one that names the client."""
    if principal.authorization_details:
        return [
            Claim(detail.agreement, policy.agreements.get(detail.agreement), detail)
            for detail in principal.authorization_details
        ]
    naming = policy.agreements_by_client.get((principal.issuer, principal.client_id), ())
    return [Claim(agreement.id, agreement, None) for agreement in naming]


def _audience(policy: Policy, principal: Principal, claims: list[Claim]) -> Audience:
    if (principal.issuer, principal.client_id) in policy.internal_clients:
        return Audience.INTERNAL
    return Audience.PARTNER if claims else Audience.PUBLIC


def _admitted(call: Call) -> Denied | None:
    if call.principal.anonymous and not call.policy.serves_anonymous:
        return Denied(Reason.TOKEN_MISSING)
    return None


def _scope(call: Call) -> Denied | None:
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


def _released(call: Call) -> Denied | None:
    """Says the same of a model that is closed, that the agreement leaves out, and that does not exist."""
    opened_to = call.policy.stage.open.get(call.request.model)
    is_open = opened_to is not None and opened_to <= call.audience
    if is_open and (call.claim is None or call.claim.names_model(call.request.model)):
        return None
    return Denied(Reason.MODEL_NOT_RELEASED, {"stage": call.policy.stage.id})


def _agreement_given(call: Call) -> Denied | None:
    if call.request.partner_only and call.claim is None:
        return Denied(Reason.AGREEMENT_REQUIRED)
    return None


def _agreement_known(call: Call) -> Denied | None:
    if call.claim is not None and call.claim.agreement is None:
        return Denied(Reason.AGREEMENT_UNKNOWN, {"agreement": call.claim.agreement_id})
    return None


def _agreement_state(terms: Agreement, principal: Principal, now: float) -> Reason | None:
    if terms.status != "active" or now < terms.valid.from_.timestamp():
        return Reason.AGREEMENT_NOT_ACTIVE
    if now >= terms.valid.until.timestamp():
        return Reason.AGREEMENT_EXPIRED
    if not terms.names(principal.issuer, principal.client_id):
        return Reason.AGREEMENT_CLIENT_MISMATCH
    return None


def _agreement_holds(call: Call) -> Denied | None:
    reason = _agreement_state(call.terms, call.principal, call.now) if call.terms is not None else None
    return _denied(call, reason)


def _purpose(call: Call) -> Denied | None:
    is_permitted = call.claim is None or call.claim.permits_purpose(call.request.purpose)
    return _denied(call, None if is_permitted else Reason.PURPOSE_NOT_PERMITTED)


def _action(call: Call) -> Denied | None:
    is_permitted = call.claim is None or call.claim.permits_action(call.request.action)
    return _denied(call, None if is_permitted else Reason.ACTION_NOT_PERMITTED)


def _network(call: Call) -> Denied | None:
    networks = call.terms.networks if call.terms is not None else ()
    address = call.peer.address
    is_inside = not networks or (address is not None and any(address in network for network in networks))
    return _denied(call, None if is_inside else Reason.NETWORK_NOT_PERMITTED)


def _is_outside_hours(terms: Agreement, now: float) -> bool:
    return terms.hours is not None and not terms.hours.include(datetime.fromtimestamp(now, terms.timezone))


def _hours(call: Call) -> Denied | None:
    terms = call.terms
    is_enforced = terms is not None and terms.hours is not None and terms.hours.mode == "enforce"
    is_outside = terms is not None and is_enforced and _is_outside_hours(terms, call.now)
    return _denied(call, Reason.OUTSIDE_HOURS if is_outside else None)


def _denied(call: Call, reason: Reason | None) -> Denied | None:
    if reason is None or call.claim is None:
        return None
    return Denied(reason, {"agreement": call.claim.agreement_id})


def _token_lifetime(call: Call) -> Denied | None:
    maximum = call.terms.token.max_lifetime if call.terms is not None else None
    if maximum is None or call.principal.expires_at - call.principal.issued_at <= maximum:
        return None
    return Denied(Reason.TOKEN_LIFETIME_EXCESSIVE, {"max_lifetime_seconds": str(maximum)})


def _token_binding(call: Call) -> Denied | None:
    is_required = call.terms is not None and call.terms.token.binding == "mtls"
    bound_to = call.principal.certificate_thumbprint
    if is_required and (bound_to is None or bound_to != call.peer.certificate_thumbprint):
        return Denied(Reason.TOKEN_BINDING_REQUIRED)
    return None


def _step_up(call: Call) -> Denied | None:
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


def _output_terms(call: Call) -> Denied | None:
    """Only generated text is under output terms: a score says nothing that the caller did not write."""
    request = call.request
    if call.terms is None or request.action != "generate":
        return None
    output = call.terms.output
    if output.watermark == "required" and request.greedy:
        return Denied(Reason.OUTPUT_TERMS_CONFLICT, {"term": "watermark"})
    if output.redaction != "none" and (request.token_bytes or request.logprobs):
        return Denied(Reason.OUTPUT_TERMS_CONFLICT, {"term": "redaction"})
    return None


CHECKS = (
    Check(2, "the caller has a token, or callers without one are served", _admitted),
    Check(12, "the token has the scopes of this call", _scope),
    Check(13, "the active stage opens the model to this caller", _released),
    Check(14, "the method is not for partners only, or an agreement is claimed", _agreement_given),
    Check(14, "the policy has the claimed agreement", _agreement_known),
    Check(14, "the agreement is active, in its term, and names this client", _agreement_holds),
    Check(14, "the agreement permits the purpose", _purpose),
    Check(14, "the agreement permits the action", _action),
    Check(14, "the call comes from a network of the agreement", _network),
    Check(14, "the call comes within the agreement's hours", _hours),
    Check(15, "the token lives no longer than the agreement allows", _token_lifetime),
    Check(15, "the token is bound to a certificate where the agreement asks", _token_binding),
    Check(15, "the caller authenticated as strongly and as lately as the agreement asks", _step_up),
    Check(16, "the request can be served under the agreement's output terms", _output_terms),
)
"""The order of decision. Withdrawals of models and agreements take their places in rows 13 and 14."""

_ROWS_OF_THE_CLAIM = frozenset({13, 14, 15})


def _grant(call: Call) -> Grant:
    terms, principal, public = call.terms, call.principal, call.policy.plan.public
    expires_at = int(call.now) + ANONYMOUS_CALL_SECONDS if principal.anonymous else principal.expires_at
    if terms is not None:
        partner, quotas = terms.partner, terms.quotas
        if call.claim is not None and call.claim.detail is not None:
            quotas = quotas.narrowed_by(call.claim.detail.limits)
        expires_at = min(expires_at, int(terms.valid.until.timestamp()))
    elif call.audience is Audience.INTERNAL:
        partner, quotas = "internal", Quotas()
    else:
        partner, quotas = "public", public.quotas
        if principal.anonymous and public.anonymous_quotas is not None:
            quotas = quotas.narrowed_by(public.anonymous_quotas.model_dump())
    return Grant(
        action=call.request.action,
        model=call.request.model,
        audience=call.audience,
        stage=call.policy.stage.id,
        policy_revision=call.policy.revision,
        agreement=terms.id if terms is not None else None,
        partner=partner,
        max_output_tokens=quotas.output_tokens_per_call,
        watermark=terms is not None and terms.output.watermark == "required",
        redaction=terms.output.redaction if terms is not None and terms.output.redaction != "none" else None,
        stop_flagged=terms is not None and terms.output.flagged == "stop",
        outside_hours=terms is not None and _is_outside_hours(terms, call.now),
        expires_at=expires_at,
        quotas=quotas,
    )
