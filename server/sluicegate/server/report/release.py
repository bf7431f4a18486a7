"""What the release plan of `--policy` says: its stages, what they require, and the steps that it records."""

from __future__ import annotations

from sluicegate.auth import Policy, judge
from sluicegate.evidence import EvidenceSet
from sluicegate.server.audit.form import time_text
from sluicegate.server.report.evaluations import content_of
from sluicegate.server.report.events import EventBook
from sluicegate.server.report.figures import CitedEvidence, PlannedTransition, RequirementRow, StageRow
from sluicegate.server.report.period import Period


def stage_rows(policy: Policy) -> tuple[StageRow, ...]:
    models = sorted(policy.models)
    return tuple(
        StageRow(
            stage.id,
            stage.name,
            stage.id == policy.plan.active,
            tuple((model, stage.open[model].value if model in stage.open else None) for model in models),
        )
        for stage in policy.plan.stages
    )


def requirement_rows(policy: Policy, evidence: EvidenceSet) -> tuple[RequirementRow, ...]:
    """Each requirement of each stage, held against this evidence."""
    rows = []
    for stage in policy.plan.stages:
        for requirement in stage.requires:
            found = judge(policy.plan, requirement, evidence)
            digest = None if found.evidence is None else found.evidence.sha256
            rows.append(RequirementRow(stage.id, requirement.name, requirement.model, found.state.value, digest))
    return tuple(rows)


def planned_rows(
    policy: Policy, evidence: EvidenceSet, events: EventBook, period: Period
) -> tuple[PlannedTransition, ...]:
    """The steps of the period."""
    seen = {(change.previous_stage, change.stage) for change in events.changes if change.changes_stage}
    contents = {each.sha256: content_of(each.evidence) for each in evidence.files}
    return tuple(
        PlannedTransition(
            at=at,
            from_stage=step.from_,
            to_stage=step.to,
            signers=len(step.by),
            evidence=tuple(CitedEvidence(digest, contents.get(digest)) for digest in step.evidence_sha256),
            is_in_logs=(step.from_, step.to) in seen,
        )
        for step in policy.plan.transitions
        if (at := time_text(step.at.timestamp())) in period
    )
