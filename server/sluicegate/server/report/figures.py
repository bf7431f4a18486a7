"""The figures of a report: what may be told, and nothing else. Pages and JSON are made of these alone."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.server.report.evaluations import Evaluations
from sluicegate.server.report.suppression import Figure


@dataclass(frozen=True, slots=True)
class UseRow:
    """Calls of one cell, or of several summed up."""

    label: str
    requests: Figure
    """That began in the period."""
    input_tokens: Figure
    """Of calls that ended in it, as the next."""
    output_tokens: Figure


@dataclass(frozen=True, slots=True)
class ModelUse:
    """One model: who used it."""

    model: str
    by_audience: tuple[tuple[str, Figure], ...]
    """Requests of each audience, in the order of `Figures.audiences`."""
    whole: UseRow


@dataclass(frozen=True, slots=True)
class PartnerUse:
    """One partner, or `public` or `internal`: what it used."""

    partner: str
    by_model: tuple[UseRow, ...]
    whole: UseRow


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """One reason of refusals."""

    reason: str
    class_: str
    """Of DenialClass; `other` where nothing was denied that the caller lacked."""
    refusals: Figure


@dataclass(frozen=True, slots=True)
class PartnerDenials:
    """Refusals of one partner by class, in the order of `Figures.classes`."""

    partner: str
    by_class: tuple[Figure, ...]
    whole: Figure


@dataclass(frozen=True, slots=True)
class SpanRow:
    """Some days together."""

    since: str
    until: str
    count: int


@dataclass(frozen=True, slots=True)
class WithdrawalRow:
    """One order of an operator. No words of its maker, and no people: those of them may be named."""

    at: str
    kind: str
    target: str | None
    """None for kinds that are about people, clients and their tokens."""
    is_lifting: bool
    signers: int
    ended_calls: Figure
    effect_seconds: float | None
    """At most so long until the last call that it met had ended; None: it met none that is on record."""


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A policy that came into force."""

    at: str
    until: str
    """On the last replica."""
    revision: str
    previous_revision: str | None
    stage: str
    previous_stage: str | None
    signatures_checked: bool
    replicas: int
    changes_stage: bool


@dataclass(frozen=True, slots=True)
class CitedEvidence:
    """A document that a step is based on."""

    sha256: str
    content: str | None
    """In a few words; None where it is not among the evidence that was given."""


@dataclass(frozen=True, slots=True)
class PlannedTransition:
    """A step that the release plan of --policy records."""

    at: str
    from_stage: str
    to_stage: str
    signers: int
    evidence: tuple[CitedEvidence, ...]
    is_in_logs: bool


@dataclass(frozen=True, slots=True)
class StageRow:
    """A stage of the release plan of --policy."""

    id: str
    name: str
    is_active: bool
    open_to: tuple[tuple[str, str | None], ...]
    """Each model of the plan, by its id, with whom the stage opens it to; None: nobody."""


@dataclass(frozen=True, slots=True)
class RequirementRow:
    """What a stage requires of a model, held against the evidence at the end of the period."""

    stage: str
    requirement: str
    """A gate's id, or `finding:` and a partner."""
    model: str
    state: str
    """Of RequirementState."""
    evidence_sha256: str | None
    """Of the file that decided."""


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A count of findings; of several names together where one alone would be too few."""

    names: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class FindingFigures:
    """Findings that were filed in the period. A table is None where there are too few to tell."""

    filed: Figure
    by_kind: tuple[FindingRow, ...] | None
    by_severity: tuple[FindingRow, ...] | None
    by_status: tuple[FindingRow, ...] | None
    """At the end of the period."""
    by_model: tuple[FindingRow, ...] | None


@dataclass(frozen=True, slots=True)
class OutageRow:
    """A time in which a log could not be written."""

    replica: str
    since: str
    until: str
    cause: str
    openings_lost: Figure


@dataclass(frozen=True, slots=True)
class LogRow:
    """One log: how far it can be relied on."""

    replica: str
    deployment: str
    log: str | None
    is_verified: bool
    problems: int
    is_key_given: bool
    is_anchored: bool
    last_head: str | None
    """LOG:ENTRY:HASH of the newest entry that a good signature covers; None without one."""
    first_at: str | None
    last_at: str | None
    checkpoints: int
    """In the period; so the next ones."""
    starts: int
    silent_seconds: float
    silent_since: str | None


@dataclass(frozen=True, slots=True)
class SignalRow:
    """A count of signals."""

    label: str
    count: Figure


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert that was raised."""

    alert: str
    area: str
    severity: str
    times: int
    """Separate times; two that were less than the step of looking apart are one."""
    minutes: int
    """For how long in all, over all that it was raised about."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What a Prometheus knows of the period."""

    gaps: tuple[str, ...]
    """What it does not know, in sentences."""
    alerts: tuple[AlertRow, ...]
    prompt_duplicates: tuple[SignalRow, ...]
    """By partner; so the next ones, but for the last."""
    output_duplicates: tuple[SignalRow, ...]
    personal_data: tuple[SignalRow, ...]
    """By type."""
    flagged_lexicon: tuple[SignalRow, ...]
    """By category."""
    memorisation: tuple[SignalRow, ...]
    """By model."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A whole report."""

    title: str
    since: str
    until: str
    is_verified: bool
    reservations: tuple[str, ...]
    """What a reader must know before any figure, in sentences."""
    audiences: tuple[str, ...]
    requests: Figure
    by_model: tuple[ModelUse, ...]
    by_audience: tuple[UseRow, ...]
    by_partner: tuple[PartnerUse, ...]
    requests_over_time: tuple[SpanRow, ...] | None
    """None: too few to tell; so with denials."""
    classes: tuple[str, ...]
    denials: Figure
    by_class: tuple[tuple[str, Figure], ...]
    by_reason: tuple[ReasonRow, ...]
    denials_by_partner: tuple[PartnerDenials, ...]
    denials_over_time: tuple[SpanRow, ...] | None
    interrupted: Figure
    interrupted_tokens: Figure
    """At most."""
    withdrawals: tuple[WithdrawalRow, ...]
    changes: tuple[ChangeRow, ...]
    stages: tuple[StageRow, ...]
    """In the plan's order; empty: no policy was given. So the next two."""
    requirements: tuple[RequirementRow, ...]
    planned: tuple[PlannedTransition, ...]
    findings: FindingFigures
    evaluations: Evaluations | None
    """None: no evidence was given."""
    outages: tuple[OutageRow, ...]
    logs: tuple[LogRow, ...]
    signals: Signals | None
    """None: no Prometheus was asked."""
