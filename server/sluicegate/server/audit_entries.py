"""What the server knows of calls, withdrawals and findings, as entries of the audit log: which facts, which names.

What a caller writes, and people and clients by name, do not come in: they are written as `other` and as pseudonyms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sluicegate.auth import AccessRequest, Agreement, Audience, Claim, Grant, Peer, Policy, Principal, Reason
from sluicegate.server.audit import (
    OTHER,
    Decision,
    FindingFiled,
    FindingReviewed,
    Opening,
    Operated,
    Pseudonyms,
    Withdrawn,
)
from sluicegate.server.caller import Caller
from sluicegate.server.state import (
    AgreementTarget,
    ClientTarget,
    Finding,
    IssuedBeforeTarget,
    KeyTarget,
    ModelTarget,
    Review,
    StageTarget,
    SubjectTarget,
    Target,
    TokenTarget,
    Withdrawal,
)


@dataclass(frozen=True, slots=True)
class AuditedCall:
    """What is known of a call before anything is decided on it."""

    id: str
    caller: Caller
    action: str
    """What it asks for; its method, if it did not come to ask."""
    request: AccessRequest | None = None


def denied(names: Pseudonyms, policy: Policy, call: AuditedCall, *, code: str, reason: Reason | None) -> Opening:
    """The opening of a call that was refused."""
    principal, request = call.caller.principal, call.request
    identity = policy.identify(principal)
    claim = policy.claim_of(principal, request)
    terms = claim.agreement if claim is not None else None
    is_own = terms is not None and terms.names(principal.issuer, principal.client_id)
    return Opening(
        call=call.id,
        decision=Decision.DENIED,
        reason=reason,
        code=code,
        policy_revision=policy.revision,
        stage=identity.stage,
        audience=identity.audience,
        partner=terms.partner if terms is not None and is_own else _partner(identity.audience),
        client=names.client(principal),
        subject=names.subject(principal),
        jti_hash=names.token(principal),
        kid=principal.key_id or None,
        scopes=tuple(sorted(principal.scopes)),
        agreement=_agreement(claim),
        is_claimed_by_token=claim is not None and claim.detail is not None,
        purpose=_purpose(request, terms),
        action=call.action,
        model=_model(request, policy),
        logprobs=request is not None and request.logprobs,
        greedy=request is not None and request.greedy,
        token_bytes=request is not None and request.token_bytes,
    )


def allowed(names: Pseudonyms, policy: Policy, call: AuditedCall, grant: Grant, *, reserved_tokens: int) -> Opening:
    """The opening of a call that may be served."""
    terms = policy.agreements.get(grant.agreement) if grant.agreement is not None else None
    return replace(
        denied(names, policy, call, code="OK", reason=None),
        decision=Decision.ALLOWED,
        policy_revision=grant.policy_revision,
        stage=grant.stage,
        audience=grant.audience,
        partner=grant.partner,
        agreement=grant.agreement,
        purpose=_purpose(call.request, terms),
        token_terms_met=_terms_met(terms),
        network=_network(terms, call.caller.peer),
        reserved_tokens=reserved_tokens,
    )


def withdrawn(
    names: Pseudonyms,
    operator: Principal,
    withdrawal: Withdrawal,
    *,
    lifted_for: str | None = None,
    signers: Sequence[str] = (),
) -> Withdrawn:
    """The entry of a withdrawal that was made, or that is lifted, for the reason `lifted_for`."""
    by = names.subject(operator)
    return Withdrawn(
        id=withdrawal.id,
        withdrawal=withdrawal.kind,
        target=_target(names, withdrawal.target),
        lifted=lifted_for is not None,
        by=(by,) if by is not None else (),
        signers=tuple(signers),
        justification=withdrawal.justification if lifted_for is None else lifted_for,
    )


def finding_filed(names: Pseudonyms, reporter: Principal, finding: Finding) -> FindingFiled:
    """The entry of a finding: nothing of what its reporter wrote."""
    return FindingFiled(
        id=finding.id,
        sha256=finding.digest,
        finding=finding.report.kind,
        severity=finding.report.severity,
        model=finding.report.model,
        stage=finding.stage,
        partner=finding.partner,
        agreement=finding.agreement,
        client=names.client(reporter),
    )


def finding_reviewed(names: Pseudonyms, operator: Principal, finding: Finding, review: Review) -> FindingReviewed:
    """The entry of a review that an operator asks for."""
    by = names.subject(operator)
    return FindingReviewed(
        id=finding.id,
        sha256=finding.digest,
        status=review.status,
        by=(by,) if by is not None else (),
        justification=review.justification,
    )


def operated(names: Pseudonyms, operator: Principal, operation: str, target: str, justification: str) -> Operated:
    """The entry of an operator's order to an engine."""
    by = names.subject(operator)
    return Operated(operation=operation, target=target, by=(by,) if by is not None else (), justification=justification)


def _agreement(claim: Claim | None) -> str | None:
    if claim is None:
        return None
    return claim.agreement.id if claim.agreement is not None else OTHER


def _partner(audience: Audience) -> str:
    """As whom a caller without an agreement of its own is counted."""
    return "internal" if audience is Audience.INTERNAL else "public"


def _model(request: AccessRequest | None, policy: Policy) -> str | None:
    if request is None:
        return None
    return request.model if request.model in policy.models else OTHER


def _purpose(request: AccessRequest | None, terms: Agreement | None) -> str | None:
    if request is None or request.purpose is None:
        return None
    return request.purpose if terms is not None and request.purpose in terms.purposes else OTHER


def _terms_met(terms: Agreement | None) -> tuple[str, ...]:
    """The terms for tokens that the agreement has: a call under it has met them all (row 15)."""
    if terms is None:
        return ()
    token = terms.token
    asked = (
        ("max_lifetime", token.max_lifetime is not None),
        ("binding", token.binding == "mtls"),
        ("acr", bool(token.acr)),
        ("max_auth_age", token.max_auth_age is not None),
    )
    return tuple(name for name, is_asked in asked if is_asked)


def _network(terms: Agreement | None, peer: Peer) -> int | None:
    address = peer.address
    if terms is None or address is None:
        return None
    return next((index for index, network in enumerate(terms.networks) if address in network), None)


def _target(names: Pseudonyms, target: Target) -> str:
    """The target by its id in the policy; people, clients and tokens by their pseudonyms."""
    found: str | None
    match target:
        case TokenTarget():
            found = names.of("token", target.issuer, target.jti)
        case ClientTarget():
            found = names.of("client", target.issuer, target.client)
        case SubjectTarget():
            found = names.of("subject", target.issuer, target.subject)
        case IssuedBeforeTarget():
            client = names.of("client", target.issuer, target.client or "")
            subject = names.of("subject", target.issuer, target.subject or "")
            found = " ".join(part for part in (str(target.issued_before), client, subject) if part)
        case (
            KeyTarget(kid=found)
            | AgreementTarget(agreement=found)
            | ModelTarget(model=found)
            | StageTarget(stage=found)
        ):
            pass
    return found or OTHER
