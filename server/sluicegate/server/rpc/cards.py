"""Models' cards as the API's messages."""

from __future__ import annotations

from sluicegate.evidence import BiasEvidence, Filed, MemorisationEvidence, WatermarkEvidence
from sluicegate.evidence.form import Interval
from sluicegate.server.cards import ModelCard, OpeningChange
from sluicegate.server.rpc.responses import audience, timestamp
from sluicegate.v1 import evaluation_pb2, model_service_pb2


def card(found: ModelCard) -> model_service_pb2.ModelCard:
    return model_service_pb2.ModelCard(
        bias=map(_bias, found.bias),
        watermark=None if found.watermark is None else _watermark(found.watermark),
        memorisation=map(_memorisation, found.memorisation),
        openings=map(_opening, found.openings),
    )


def _bias(filed: Filed[BiasEvidence]) -> evaluation_pb2.BiasEvaluation:
    evidence, figures = filed.evidence, filed.evidence.figures
    return evaluation_pb2.BiasEvaluation(
        suite=evidence.suite.name,
        suite_sha256=evidence.suite.sha256,
        pairs=len(evidence.pairs),
        ties=figures.ties,
        share=figures.share,
        interval=None if figures.interval is None else _interval(figures.interval),
        mean_absolute_delta=figures.mean_absolute_delta,
        evaluation_time=timestamp(evidence.ended),
        evidence_sha256=filed.sha256,
    )


def _watermark(filed: Filed[WatermarkEvidence]) -> evaluation_pb2.WatermarkEvaluation:
    evidence = filed.evidence
    return evaluation_pb2.WatermarkEvaluation(
        watermark_id=evidence.watermark_id,
        false_positive_rate=evidence.false_positive_rate,
        power=[
            evaluation_pb2.WatermarkPower(
                temperature=each.temperature, tokens=each.tokens, texts=each.texts, rate=each.rate
            )
            for each in evidence.power
        ],
        prose_texts=evidence.prose.texts,
        prose_rate=evidence.prose.rate,
        evaluation_time=timestamp(evidence.ended),
        evidence_sha256=filed.sha256,
    )


def _memorisation(filed: Filed[MemorisationEvidence]) -> evaluation_pb2.MemorisationEvaluation:
    evidence, sampling = filed.evidence, filed.evidence.sampling
    return evaluation_pb2.MemorisationEvaluation(
        corpus_sha256=evidence.corpus.sha256,
        prompt_tokens=sampling.prompt_tokens,
        max_output_tokens=sampling.max_output_tokens,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        least_tokens=evidence.least_tokens,
        samples=sampling.samples,
        matched=evidence.matched,
        rate=evidence.rate,
        interval=_interval(evidence.interval),
        evaluation_time=timestamp(evidence.ended),
        evidence_sha256=filed.sha256,
    )


def _interval(found: Interval) -> evaluation_pb2.ConfidenceInterval:
    return evaluation_pb2.ConfidenceInterval(confidence=found.confidence, low=found.low, high=found.high)


def _opening(change: OpeningChange) -> model_service_pb2.OpeningChange:
    step = change.transition
    return model_service_pb2.OpeningChange(
        transition_time=timestamp(step.at),
        from_stage=step.from_,
        to_stage=step.to,
        open_before=audience(change.before),
        open_after=audience(change.after),
        evidence_sha256=step.evidence_sha256,
    )
