"""What a change of policy means: every difference of two revisions, which way it goes, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sluicegate.auth.comparing_agreements import compare_agreements
from sluicegate.auth.differences import (
    Difference,
    Effect,
    Signing,
    limit_effect,
    listing_differences,
    watermark_effect,
    written,
)
from sluicegate.auth.grant import QUOTA_NAMES, Quotas
from sluicegate.auth.policy import Policy
from sluicegate.auth.principal import Audience
from sluicegate.auth.release import ModelEntry, ReleasePlan, Stage
from sluicegate.auth.signatures import must_be_signed


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences of two revisions, in the order in which one reads a policy; none if they mean the same."""

    differences: tuple[Difference, ...]

    @property
    def opens_wider(self) -> bool:
        """Whether anything opens; if not, the change only closes or records, or its effect is to be read."""
        return any(each.effect is Effect.OPENS for each in self.differences)

    @property
    def signings(self) -> frozenset[Signing]:
        """The kinds of signatures that it needs, where signatures are checked."""
        return frozenset(each.signing for each in self.differences) - {Signing.NONE}


def compare(before: Policy, after: Policy) -> Comparison:
    """What `after` would change if it took the place of `before`. Signatures themselves are no difference."""
    differences = (
        *_stage(before.stage, after.stage),
        *_internal(before.plan, after.plan),
        *compare_agreements(before.agreements, after.agreements),
        *_plan(before.plan, after.plan),
    )
    return Comparison(differences)


def _stage(before: Stage, after: Stage) -> Iterator[Difference]:
    """The stage in force, and what that does to each model."""
    subject = "stage in force"
    signing = Signing.TRANSITION if after.opens_wider_than(before) else Signing.NONE
    if before.id != after.id:
        effect = Effect.OPENS if signing is Signing.TRANSITION else Effect.CLOSES
        if not after.opens_wider_than(before) and not before.opens_wider_than(after):
            effect = Effect.RECORDS
        yield Difference(subject, "", before.id, after.id, effect, signing)
    for model in dict.fromkeys((*before.open, *after.open)):
        old, new = before.open.get(model), after.open.get(model)
        if old is not new:
            opens = new is not None and (old is None or new < old)
            effect = Effect.OPENS if opens else Effect.CLOSES
            signed = Signing.TRANSITION if opens else Signing.NONE
            yield Difference(subject, f"open.{model}", _audience(old), _audience(new), effect, signed)


def _audience(audience: Audience | None) -> str:
    return audience.value if audience is not None else "nobody"


def _internal(before: ReleasePlan, after: ReleasePlan) -> Iterator[Difference]:
    old, new = ([f"{each.client} of {each.issuer}" for each in plan.internal.clients] for plan in (before, after))
    for removed, added in listing_differences(old, new):
        effect, signing = (Effect.OPENS, Signing.ONE) if added else (Effect.CLOSES, Signing.NONE)
        yield Difference("internal", "clients", removed, added, effect, signing)


def _plan(before: ReleasePlan, after: ReleasePlan) -> Iterator[Difference]:
    """The rest of release.yaml. Once a transition is signed, it seals all of this: any change needs another one."""
    is_sealed = any(must_be_signed(each, after.stages_by_id) for each in after.transitions)
    signing = Signing.TRANSITION if is_sealed else Signing.NONE
    terms = (*_stages(before, after), *_gates(before, after), *_models(before, after), *_terms(before, after))
    for subject, field, old, new, effect in terms:
        yield Difference(subject, field, old, new, effect, signing)
    for removed, added in listing_differences(_steps(before), _steps(after)):
        yield Difference("transitions", "", removed, added, Effect.RECORDS)


_Term = tuple[str, str, str | None, str | None, Effect]


def _stages(before: ReleasePlan, after: ReleasePlan) -> Iterator[_Term]:
    """The plan's stages as they are written; what is in force is told apart."""
    old, new = before.stages_by_id, after.stages_by_id
    for id_ in dict.fromkeys((*old, *new)):
        if old.get(id_) != new.get(id_):
            yield "stages", id_, _described(old.get(id_)), _described(new.get(id_)), Effect.RECORDS
    if list(old) != list(new) and old.keys() == new.keys():
        yield "stages", "order", ", ".join(old), ", ".join(new), Effect.RECORDS


def _described(stage: Stage | None) -> str | None:
    if stage is None:
        return None
    opened = ", ".join(f"{model} {audience.value}" for model, audience in stage.open.items())
    wanted = ", ".join(f"{each.gate or each.finding} of {each.model}" for each in stage.requires)
    return f"{stage.name}: {opened or 'nothing'}" + (f"; requires {wanted}" if wanted else "")


def _gates(before: ReleasePlan, after: ReleasePlan) -> Iterator[_Term]:
    for id_ in dict.fromkeys((*before.gates, *after.gates)):
        old, new = before.gates.get(id_), after.gates.get(id_)
        if old != new:
            yield "gates", id_, written(old), written(new), Effect.RECORDS


def _models(before: ReleasePlan, after: ReleasePlan) -> Iterator[_Term]:
    for model in dict.fromkeys((*before.models, *after.models)):
        old, new = before.models.get(model), after.models.get(model)
        subject = f"model {model}"
        if old is None or new is None:
            yield subject, "", _source(old), _source(new), Effect.RECORDS
            continue
        for field in ModelEntry.model_fields:
            if (was := getattr(old, field)) != (is_ := getattr(new, field)):
                effect = Effect.CHANGES if field in ("source", "weights_sha256") else Effect.RECORDS
                if field == "watermark":
                    effect = watermark_effect(old.watermark, new.watermark)
                yield subject, field, written(was), written(is_), effect


def _source(model: ModelEntry | None) -> str | None:
    return model.source if model is not None else None


def _terms(before: ReleasePlan, after: ReleasePlan) -> Iterator[_Term]:
    if before.public.anonymous != after.public.anonymous:
        effect = Effect.OPENS if after.public.anonymous == "serve" else Effect.CLOSES
        yield "public", "anonymous", before.public.anonymous, after.public.anonymous, effect
    for field in ("quotas", "anonymous_quotas"):
        old, new = (getattr(plan.public, field) or Quotas() for plan in (before, after))
        for name in sorted(QUOTA_NAMES):
            was, is_ = getattr(old, name), getattr(new, name)
            if was != is_:
                yield "public", f"{field}.{name}", written(was), written(is_), limit_effect(was, is_)
    for name in ("public", "partner"):
        was, is_ = getattr(before.on_state_lost, name), getattr(after.on_state_lost, name)
        if was != is_:
            yield "on_state_lost", name, was, is_, Effect.OPENS if is_ == "serve" else Effect.CLOSES
    was, is_ = before.on_audit_lost.public, after.on_audit_lost.public
    if was != is_:
        yield "on_audit_lost", "public", was, is_, Effect.OPENS if is_ == "serve" else Effect.CLOSES


def _steps(plan: ReleasePlan) -> list[str]:
    return [f"{each.from_} to {each.to}, {each.at:%Y-%m-%d}" for each in plan.transitions]
