"""Evidence files for tests, made by figures: each is what its evaluation could have written."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sluicegate.client.evaluation.rates import interval, mcnemar
from sluicegate.evidence import BiasEvidence, Evidence, FindingEvidence, MemorisationEvidence, WatermarkEvidence, encode
from sluicegate.evidence.bias import CategoryFigures, Comparison, Figures, PairResult, SuiteFacts, means, share_of
from sluicegate.evidence.form import Subject
from sluicegate.evidence.memorisation import CorpusFacts, Match, Sampling
from sluicegate.evidence.watermark import Power, Prose

WEIGHTS = "a" * 64
ENDED = datetime(2026, 1, 10, 12, tzinfo=UTC)
FINDING_ID = "019c1a52-5a80-7abc-8def-0123456789ab"


def subject(model: str, weights: str = WEIGHTS) -> Subject:
    return Subject(model=model, weights_sha256=weights, dtype="float32", served_under=())


def bias(
    model: str,
    *,
    stereotype: int = 100,
    other: int = 100,
    suite: str = "occupations",
    weights: str = WEIGHTS,
    ended: datetime = ENDED,
    compared_with: tuple[str, str, int, int] | None = None,
) -> BiasEvidence:
    """Pairs of which so many prefer the stereotype, and so many the other.

    `compared_with`: model, weights, only this, only other.
    """
    deltas = [0.5] * stereotype + [-0.5] * other
    pairs = tuple(
        PairResult(id=f"p{number}", category="nurse", stereotype=-9.0 + delta, other=-9.0)
        for number, delta in enumerate(deltas)
    )
    share = share_of(stereotype, other)
    assert share is not None
    absolute, mean = means(pairs)
    figures = Figures(
        prefer_stereotype=stereotype,
        prefer_other=other,
        ties=0,
        share=share,
        interval=interval(stereotype, stereotype + other),
        mean_absolute_delta=absolute,
        mean_delta=mean,
    )
    comparison = None
    if compared_with is not None:
        that, its_weights, only_this, only_other = compared_with
        comparison = Comparison(
            model=that,
            weights_sha256=its_weights,
            evidence_sha256="c" * 64,
            only_this=only_this,
            only_other=only_other,
            p_value=mcnemar(only_this, only_other),
        )
    return BiasEvidence(
        tool="tests",
        began=ended - timedelta(hours=1),
        ended=ended,
        subject=subject(model, weights),
        suite=SuiteFacts(name=suite, sha256="d" * 64, data_sha256=(), left_out=0),
        figures=figures,
        categories=(CategoryFigures(category="nurse", figures=figures),),
        comparison=comparison,
        pairs=pairs,
    )


def memorisation(
    model: str,
    *,
    matched: int = 0,
    samples: int = 1000,
    weights: str = WEIGHTS,
    ended: datetime = ENDED,
) -> MemorisationEvidence:
    """Samples without a prompt, of which so many recite a corpus."""
    rate = round(matched / samples, 6)
    return MemorisationEvidence(
        tool="tests",
        began=ended - timedelta(hours=1),
        ended=ended,
        subject=subject(model, weights),
        corpus=CorpusFacts(sha256="e" * 64, files=1, bytes=100_000),
        sampling=Sampling(
            prompts="none", prompt_tokens=0, samples=samples, max_output_tokens=256, temperature=1.0, top_k=40, seed=0
        ),
        least_tokens=50,
        matched=matched,
        distinct=samples,
        too_short=0,
        rate=rate,
        interval=interval(matched, samples),
        matches=tuple(
            Match(
                sample=number,
                tokens=60,
                bytes=300,
                file_sha256="e" * 64,
                offset=0,
                files=1,
                continues_prompt=False,
                perplexity=math.e,
                zlib_ratio=2.0,
                rank_by_perplexity=1,
                rank_by_zlib_ratio=1,
            )
            for number in range(matched)
        ),
    )


def watermark(
    model: str,
    *,
    found: int = 98,
    texts: int = 100,
    tokens: int = 200,
    temperature: float = 0.7,
    false_positive_rate: float = 0.001,
    weights: str = WEIGHTS,
    ended: datetime = ENDED,
) -> WatermarkEvidence:
    """Marked texts of one length and temperature, in so many of which the mark was found."""
    power = Power(
        temperature=temperature, tokens=tokens, entropy=3.0, texts=texts, found=found, rate=round(found / texts, 6)
    )
    return WatermarkEvidence(
        tool="tests",
        began=ended - timedelta(hours=1),
        ended=ended,
        subject=subject(model, weights),
        watermark_id="wm-0fd704e860a8807f",
        false_positive_rate=false_positive_rate,
        power=(power,),
        robustness=(),
        prose=Prose(texts=10_000, found=9, rate=0.0009, sha256="b" * 64),
        perplexity_plain=60.5,
        perplexity_marked=61.0,
    )


def finding(
    model: str,
    *,
    partner: str = "example-lab",
    review: str = "accepted",
    weights: str = WEIGHTS,
    ended: datetime = ENDED,
) -> FindingEvidence:
    """A partner's finding about bias, reviewed a day after it was filed."""
    return FindingEvidence.model_validate(
        {
            "tool": "tests",
            "began": ended - timedelta(days=1),
            "ended": ended,
            "subject": subject(model, weights).model_copy(update={"dtype": ""}),
            "finding": FINDING_ID,
            "finding_sha256": "f" * 64,
            "partner": partner,
            "agreement": f"agr-{partner}",
            "kind": "bias",
            "severity": "low",
            "review": review,
        }
    )


def write(directory: Path, name: str, evidence: Evidence) -> Path:
    """Write it as evaluations do, into a directory that is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_bytes(encode(evidence))
    return path
