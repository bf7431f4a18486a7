"""The decision: the checks of the decision order that belong to the policy, and the grant if all of them pass.

Pure: no I/O, no clock, no state. `CHECKS` is the order; the first that fails gives the reason. The table with
every row is in docs/access.md, and tests/auth/decision_table.yaml runs it case by case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sluicegate.auth import checks
from sluicegate.auth.agreements import Agreement
from sluicegate.auth.checks import Call, Check
from sluicegate.auth.claiming import audience_among, best_claim, claims_of
from sluicegate.auth.grant import MAX_PRIORITY, AccessRequest, CheckOutcome, Denied, Grant, Quotas
from sluicegate.auth.principal import Audience, Peer, Principal
from sluicegate.auth.reasons import Reason
from sluicegate.auth.withdrawals import MAX_AGE_SECONDS

if TYPE_CHECKING:
    from sluicegate.auth.policy import Policy

ANONYMOUS_CALL_SECONDS = 3600
"""How long one call without a token may last: as long as the longest token."""


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
    """Each check in order with its outcome; checks after the first failure are not reached.

    Without the list of withdrawals the checks against it are left out: they would only seem to pass.
    """
    call = _call(policy, principal, request, peer, now)
    outcomes: list[CheckOutcome] = []
    failed = False
    for check in CHECKS:
        if check.of_withdrawals and policy.withdrawals is None:
            continue
        denied = None if failed else check.test(call)
        outcomes.append(CheckOutcome(check.row, check.question, None if failed else denied is None, denied))
        failed = failed or denied is not None
    return tuple(outcomes)


def check_caller(policy: Policy, principal: Principal) -> Denied | None:
    """Rows 2 and 9: what is asked of a caller before its request is looked at."""
    for test in (checks.admitted, checks.token_open, checks.caller_open):
        if denied := test(policy, principal):
            return denied
    return None


def check_age(policy: Policy, audience: Audience, age_seconds: float | None) -> Denied | None:
    """Row 17: whether a caller of this audience is served under a list of withdrawals of this age; None: no list."""
    is_fresh = age_seconds is not None and age_seconds <= MAX_AGE_SECONDS
    if is_fresh or policy.plan.on_state_lost.serves(audience):
        return None
    return Denied(Reason.WITHDRAWALS_STALE)


def check_scope(policy: Policy, principal: Principal, scope: str | None) -> Denied | None:
    """Rows 2, 9 and 12 for a method that is about no model."""
    if denied := check_caller(policy, principal):
        return denied
    if scope is not None and scope not in principal.scopes:
        return Denied(Reason.SCOPE_MISSING, {"required_scope": scope})
    return None


def identify(policy: Policy, principal: Principal) -> CallerIdentity:
    claims = claims_of(policy, principal)
    own = [
        claim.agreement
        for claim in claims
        if claim.agreement is not None and claim.agreement.names(principal.issuer, principal.client_id)
    ]
    return CallerIdentity(
        audience=audience_among(policy, principal, claims),
        agreement=own[0] if own else None,
        scopes=principal.scopes,
        stage=policy.stage.id,
        policy_revision=policy.revision,
    )


def visible_models(policy: Policy, principal: Principal, now: float) -> tuple[str, ...]:
    """Public models; all that are open to an internal caller; a partner's own while its agreement holds."""
    claims = claims_of(policy, principal)
    audience = audience_among(policy, principal, claims)
    known: set[str] = set()
    for claim in claims:
        terms = claim.agreement
        if terms is not None and checks.agreement_state(policy, terms, principal, now) is None:
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
    claims = claims_of(policy, principal)
    claim = best_claim(claims, request)
    audience = audience_among(policy, principal, claims)
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


def _model_open(call: Call) -> Denied | None:
    """Only who would be served otherwise learns that a model is closed; to others the next failing check answers."""
    if call.request.model not in checks.closed(call.policy).models:
        return None
    is_served_otherwise = not any(check.test(call) for check in CHECKS if check.row > _MODEL_ROW)
    return Denied(Reason.MODEL_WITHDRAWN) if is_served_otherwise else None


def _of_caller(test: Callable[[Policy, Principal], Denied | None]) -> Callable[[Call], Denied | None]:
    return lambda call: test(call.policy, call.principal)


_MODEL_ROW = 13

CHECKS = (
    Check(2, "the caller has a token, or callers without one are served", _of_caller(checks.admitted)),
    Check(9, "neither the token nor its key was withdrawn", _of_caller(checks.token_open), of_withdrawals=True),
    Check(9, "neither the client nor the subject was withdrawn", _of_caller(checks.caller_open), of_withdrawals=True),
    Check(12, "the token has the scopes of this call", checks.scope),
    # Before the model is looked at: else whoever claims what is not theirs could tell a closed model from none.
    Check(_MODEL_ROW, "the policy has the claimed agreement", checks.agreement_known),
    Check(_MODEL_ROW, "the claimed agreement names this client", checks.agreement_own),
    Check(_MODEL_ROW, "the active stage opens the model to this caller", checks.released),
    Check(_MODEL_ROW, "the model was not withdrawn from a caller who may use it", _model_open, of_withdrawals=True),
    Check(14, "the method is not for partners only, or an agreement is claimed", checks.agreement_given),
    Check(14, "the agreement is active and in its term", checks.agreement_holds),
    Check(14, "the agreement permits the purpose", checks.purpose),
    Check(14, "the agreement permits the action", checks.action),
    Check(14, "the call comes from a network of the agreement", checks.network),
    Check(14, "the call comes within the agreement's hours", checks.hours),
    Check(15, "the token lives no longer than the agreement allows", checks.token_lifetime),
    Check(15, "the token is bound to a certificate where the agreement asks", checks.token_binding),
    Check(15, "the caller authenticated as strongly and as lately as the agreement asks", checks.step_up),
    Check(16, "the request can be served under the terms for output", checks.output_terms),
)
"""The order of decision."""

_ROWS_OF_THE_CLAIM = frozenset({13, 14, 15})


def _grant(call: Call) -> Grant:
    terms, principal, public = call.terms, call.principal, call.policy.plan.public
    expires_at = int(call.now) + ANONYMOUS_CALL_SECONDS if principal.anonymous else principal.expires_at
    if terms is not None:
        partner, quotas, max_priority = terms.partner, terms.quotas, terms.max_priority
        if call.claim is not None and call.claim.detail is not None:
            quotas = quotas.narrowed_by(call.claim.detail.limits)
        expires_at = min(expires_at, int(terms.valid.until.timestamp()))
    elif call.audience is Audience.INTERNAL:
        partner, quotas, max_priority = "internal", Quotas(), MAX_PRIORITY
    else:
        partner, quotas, max_priority = "public", public.quotas, 0
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
        watermark=checks.watermark(call) != "none",
        redaction=terms.output.redaction if terms is not None and terms.output.redaction != "none" else None,
        stop_flagged=terms is not None and terms.output.flagged == "stop",
        outside_hours=terms is not None and checks.is_outside_hours(terms, call.now),
        expires_at=expires_at,
        quotas=quotas,
        max_priority=max_priority,
    )
