"""What was measured on the models by the end of the period, from evidence files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sluicegate.auth import Policy
from sluicegate.evidence import (
    BiasEvidence,
    Evidence,
    EvidenceSet,
    Filed,
    FindingEvidence,
    MemorisationEvidence,
    WatermarkEvidence,
)
from sluicegate.evidence.form import Interval
from sluicegate.server.audit.form import time_text


@dataclass(frozen=True, slots=True)
class Origin:
    """What was measured, when the last of it was, and the digest of the file that has all of it."""

    model: str
    weights_sha256: str
    at: str
    evidence_sha256: str


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """Where a rate lies; all from 0 to 1."""

    confidence: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BiasRow:
    """One suite. Rates are 0 to 1, here and below; None where all pairs are ties."""

    origin: Origin
    suite: str
    share: float | None
    interval: IntervalRow | None
    mean_absolute_delta: float
    """Nats."""
    pairs: int


@dataclass(frozen=True, slots=True)
class WatermarkRow:
    """Marked texts of one length, drawn at one temperature."""

    origin: Origin
    false_positive_rate: float
    temperature: float
    tokens: int
    texts: int
    rate: float


@dataclass(frozen=True, slots=True)
class MemorisationRow:
    """One corpus, with or without prompts from it."""

    origin: Origin
    corpus_sha256: str
    prompt_tokens: int
    samples: int
    matched: int
    rate: float
    interval: IntervalRow


@dataclass(frozen=True, slots=True)
class Evaluations:
    """The latest of each topic."""

    bias: tuple[BiasRow, ...]
    watermark: tuple[WatermarkRow, ...]
    memorisation: tuple[MemorisationRow, ...]


def known_before(evidence: EvidenceSet, until: str) -> EvidenceSet:
    """What of it had ended before a time."""
    return EvidenceSet(tuple(each for each in evidence.files if _ended(each) < until))


def evaluations(evidence: EvidenceSet, policy: Policy | None) -> Evaluations:
    """The latest of each topic; with a policy of its models alone, and of weights that it pins, of these alone."""
    subjects = {(each.evidence.subject.model, each.evidence.subject.weights_sha256) for each in evidence.files}
    shown = [subject for subject in sorted(subjects) if policy is None or _is_planned(policy, *subject)]
    return Evaluations(
        bias=tuple(_bias(each) for subject in shown for each in evidence.latest(BiasEvidence, *subject)),
        watermark=tuple(
            row
            for subject in shown
            for each in evidence.latest(WatermarkEvidence, *subject)
            for row in _watermark(each)
        ),
        memorisation=tuple(
            _memorisation(each) for subject in shown for each in evidence.latest(MemorisationEvidence, *subject)
        ),
    )


def content_of(evidence: Evidence) -> str:
    """What it is about, in a few words; of a finding not whose."""
    model = evidence.subject.model
    match evidence:
        case BiasEvidence():
            return f"bias of {model}, {evidence.suite.name}"
        case WatermarkEvidence():
            return f"watermark of {model}"
        case MemorisationEvidence():
            return f"memorisation of {model}"
        case FindingEvidence():
            return f"a finding on {model}"
        case _:
            raise AssertionError(f"{type(evidence).__name__} is a kind of evidence that reports do not know")


def _ended(filed: Filed[Evidence]) -> str:
    return time_text(filed.evidence.ended.timestamp())


def _is_planned(policy: Policy, model: str, weights_sha256: str) -> bool:
    entry = policy.models.get(model)
    return entry is not None and entry.weights_sha256 in (None, weights_sha256)


def _origin(filed: Filed[Evidence]) -> Origin:
    subject = filed.evidence.subject
    return Origin(subject.model, subject.weights_sha256, _ended(filed), filed.sha256)


def _bias(filed: Filed[BiasEvidence]) -> BiasRow:
    evidence, figures = filed.evidence, filed.evidence.figures
    return BiasRow(
        origin=_origin(filed),
        suite=evidence.suite.name,
        share=figures.share,
        interval=None if figures.interval is None else _interval(figures.interval),
        mean_absolute_delta=figures.mean_absolute_delta,
        pairs=len(evidence.pairs),
    )


def _watermark(filed: Filed[WatermarkEvidence]) -> Iterator[WatermarkRow]:
    evidence = filed.evidence
    for each in evidence.power:
        yield WatermarkRow(
            origin=_origin(filed),
            false_positive_rate=evidence.false_positive_rate,
            temperature=each.temperature,
            tokens=each.tokens,
            texts=each.texts,
            rate=each.rate,
        )


def _memorisation(filed: Filed[MemorisationEvidence]) -> MemorisationRow:
    evidence = filed.evidence
    return MemorisationRow(
        origin=_origin(filed),
        corpus_sha256=evidence.corpus.sha256,
        prompt_tokens=evidence.sampling.prompt_tokens,
        samples=evidence.sampling.samples,
        matched=evidence.matched,
        rate=evidence.rate,
        interval=_interval(evidence.interval),
    )


def _interval(found: Interval) -> IntervalRow:
    return IntervalRow(found.confidence, found.low, found.high)
