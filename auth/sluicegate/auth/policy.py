"""The policy in force: one immutable revision of the release plan and all agreements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from sluicegate.auth import checks, decision, reporting
from sluicegate.auth.agreements import Agreement
from sluicegate.auth.claiming import Claim, best_claim, claims_of
from sluicegate.auth.grant import AccessRequest, CheckOutcome, Denied, Grant
from sluicegate.auth.principal import Audience, Peer, Principal
from sluicegate.auth.release import ModelEntry, ReleasePlan, Stage
from sluicegate.auth.withdrawals import Withdrawals, stage_in_force
from sluicegate.evidence import NO_EVIDENCE, EvidenceSet

SHOWN_REVISION_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Policy:
    """One revision. Decisions are pure functions of it (decision.py); see loading.py for how it is made."""

    revision: str
    """SHA-256 of the canonical content of all files, hex. Show the first 16 characters."""
    directory: Path
    plan: ReleasePlan
    agreements: Mapping[str, Agreement]
    is_signed: bool
    """Whether signatures were checked."""
    withdrawals: Withdrawals | None = None
    """What operators have closed; None where the list is not looked at, as by tools that have files alone."""
    evidence: EvidenceSet = NO_EVIDENCE
    """What stands beside it in the same directory; no part of the revision."""
    stage: Stage = field(init=False)
    internal_clients: frozenset[tuple[str, str]] = field(init=False)
    agreements_by_client: Mapping[tuple[str, str], tuple[Agreement, ...]] = field(init=False)

    def __post_init__(self) -> None:
        internal = frozenset((client.issuer, client.client) for client in self.plan.internal.clients)
        by_client: dict[tuple[str, str], tuple[Agreement, ...]] = {}
        in_force_first = sorted(self.agreements.values(), key=lambda each: (not each.may_come_into_force, each.id))
        for agreement in in_force_first:
            for client in agreement.clients:
                key = (client.issuer, client.client)
                by_client[key] = (*by_client.get(key, ()), agreement)
        object.__setattr__(self, "stage", stage_in_force(self.plan, self.withdrawals))
        object.__setattr__(self, "internal_clients", internal)
        object.__setattr__(self, "agreements_by_client", MappingProxyType(by_client))

    def under(self, withdrawals: Withdrawals) -> Policy:
        """The same revision, narrowed by what operators have closed: every answer of it, the stage included.

        Its cost grows with the number of agreements; make it once for each change of either, not for each call.
        """
        return replace(self, withdrawals=withdrawals)

    @property
    def shown_revision(self) -> str:
        return self.revision[:SHOWN_REVISION_LENGTH]

    @property
    def models(self) -> Mapping[str, ModelEntry]:
        """Every model of the plan by id, in the plan's order."""
        return self.plan.models

    @property
    def serves_anonymous(self) -> bool:
        """Whether a call without a token is served, as public and under a quota of its own."""
        return self.plan.public.anonymous == "serve"

    def weights_directory(self, model: str) -> Path | None:
        """Where a model's weights are on this machine; None if its source is a hub id."""
        source = self.plan.models[model].source
        return self.directory / source if source.startswith(("/", "./", "../")) else None

    def decide(self, principal: Principal, request: AccessRequest, peer: Peer, now: float) -> Grant | Denied:
        """The decision on one call, rows 2, 9 and 12 to 16; `now` in Unix seconds."""
        return decision.decide(self, principal, request, peer, now)

    def explain(self, principal: Principal, request: AccessRequest, peer: Peer, now: float) -> tuple[CheckOutcome, ...]:
        """Each check of `decide`, in order, with its outcome."""
        return decision.explain(self, principal, request, peer, now)

    def check_caller(self, principal: Principal) -> Denied | None:
        """Rows 2 and 9 alone, for a caller whose request is yet to be read."""
        return decision.check_caller(self, principal)

    def check_age(self, audience: Audience, age_seconds: float | None) -> Denied | None:
        """Row 17: the refusal of a granted call because the list of withdrawals is too old; None: there is none."""
        return decision.check_age(self, audience, age_seconds)

    def check_scope(self, principal: Principal, scope: str | None) -> Denied | None:
        """The refusal of a method that is about no model; `scope` as `scopes.required` gives it."""
        return decision.check_scope(self, principal, scope)

    def standing(self, principal: Principal, model: str | None, peer: Peer, now: float) -> reporting.Standing | Denied:
        """As whom a caller reports on this model, or on none; or why it cannot. `now` in Unix seconds."""
        return reporting.standing(self, principal, model, peer, now)

    def identify(self, principal: Principal) -> decision.CallerIdentity:
        """What a caller may be told about itself."""
        return decision.identify(self, principal)

    def audience_of(self, principal: Principal) -> Audience:
        """As whom a caller comes, before anything of its request is known."""
        return decision.identify(self, principal).audience

    def is_withdrawn(self, model: str) -> bool:
        """Whether operators closed the model to everybody; those who may not use it must not be told."""
        return self.withdrawals is not None and model in self.withdrawals.models

    def agreement_of(self, principal: Principal) -> Agreement | None:
        """The agreement that a caller claims, if it is its own."""
        return decision.identify(self, principal).agreement

    def agreements_in_force(self, now: float) -> tuple[Agreement, ...]:
        """Those that hold at a time, in Unix seconds, by id."""
        held = (each for each in self.agreements.values() if checks.agreement_lapse(self, each, now) is None)
        return tuple(sorted(held, key=lambda each: each.id))

    def partner_of(self, principal: Principal) -> str:
        """Who a caller is by its client, whatever its token claims: a partner's name, `internal` or `public`.

        Of several agreements that name the client, the one that counts elsewhere is taken: the claimed one if it is
        its own, else the first in force.
        """
        client = (principal.issuer, principal.client_id)
        own = self.agreement_of(principal) or next(iter(self.agreements_by_client.get(client, ())), None)
        if own is not None:
            return own.partner
        return "internal" if client in self.internal_clients else "public"

    def claim_of(self, principal: Principal, request: AccessRequest | None) -> Claim | None:
        """The claim that a call is judged by; without a request, the caller's first. It need not be its own."""
        claims = claims_of(self, principal)
        return best_claim(claims, request) if request is not None else next(iter(claims), None)

    def visible_models(self, principal: Principal, now: float) -> tuple[str, ...]:
        """The models that a caller may know of, in the plan's order."""
        return decision.visible_models(self, principal, now)
