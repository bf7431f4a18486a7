"""Who comes as what: the agreement that a caller claims, and the audience that this makes it part of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluicegate.auth.agreements import Agreement
from sluicegate.auth.grant import AccessRequest
from sluicegate.auth.principal import Audience, AuthorizationDetail, Principal

if TYPE_CHECKING:
    from sluicegate.auth.policy import Policy


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

    def fit(self, request: AccessRequest) -> tuple[bool, bool, bool, bool]:
        """How well it would carry the call, the weightiest first.

        What is not in force, or not on file, loses to what is: a token may name an agreement with its successor.
        """
        return (
            self.names_model(request.model),
            self.permits_action(request.action),
            self.permits_purpose(request.purpose),
            self.agreement is not None and self.agreement.may_come_into_force,
        )


def claims_of(policy: Policy, principal: Principal) -> list[Claim]:
    """Every agreement that the token names, else every one that names the client."""
    if principal.authorization_details:
        return [
            Claim(detail.agreement, policy.agreements.get(detail.agreement), detail)
            for detail in principal.authorization_details
        ]
    naming = policy.agreements_by_client.get((principal.issuer, principal.client_id), ())
    return [Claim(agreement.id, agreement, None) for agreement in naming]


def best_claim(claims: Sequence[Claim], request: AccessRequest) -> Claim | None:
    """The claim that fits the call best, the first of equals; None if there is none."""
    return max(claims, key=lambda each: each.fit(request), default=None)


def audience_among(policy: Policy, principal: Principal, claims: list[Claim]) -> Audience:
    if (principal.issuer, principal.client_id) in policy.internal_clients:
        return Audience.INTERNAL
    return Audience.PARTNER if claims else Audience.PUBLIC
