"""What wire.py does, for models' cards."""

from __future__ import annotations

from sluicegate.client import cards, wire
from sluicegate.v1 import evaluation_pb2, model_service_pb2


def card(message: model_service_pb2.GetModelResponse) -> cards.ModelCard:
    found = message.card
    return cards.ModelCard(
        model=wire.model(message.model),
        bias=tuple(_bias(each) for each in found.bias),
        watermark=_watermark(found.watermark) if found.HasField("watermark") else None,
        memorisation=tuple(_memorisation(each) for each in found.memorisation),
        openings=tuple(_opening(each) for each in found.openings),
    )


def _bias(message: evaluation_pb2.BiasEvaluation) -> cards.BiasEvaluation:
    return cards.BiasEvaluation(
        suite=message.suite,
        suite_sha256=message.suite_sha256,
        pairs=message.pairs,
        ties=message.ties,
        share=message.share if message.HasField("share") else None,
        interval=_interval(message.interval) if message.HasField("interval") else None,
        mean_absolute_delta=message.mean_absolute_delta,
        time=wire.time(message.evaluation_time),
        evidence_sha256=message.evidence_sha256,
    )


def _watermark(message: evaluation_pb2.WatermarkEvaluation) -> cards.WatermarkEvaluation:
    return cards.WatermarkEvaluation(
        watermark_id=message.watermark_id,
        false_positive_rate=message.false_positive_rate,
        power=tuple(
            cards.WatermarkPower(each.temperature, each.tokens, each.texts, each.rate) for each in message.power
        ),
        prose_texts=message.prose_texts,
        prose_rate=message.prose_rate,
        time=wire.time(message.evaluation_time),
        evidence_sha256=message.evidence_sha256,
    )


def _memorisation(message: evaluation_pb2.MemorisationEvaluation) -> cards.MemorisationEvaluation:
    return cards.MemorisationEvaluation(
        corpus_sha256=message.corpus_sha256,
        prompt_tokens=message.prompt_tokens,
        max_output_tokens=message.max_output_tokens,
        temperature=message.temperature,
        top_k=message.top_k,
        least_tokens=message.least_tokens,
        samples=message.samples,
        matched=message.matched,
        rate=message.rate,
        interval=_interval(message.interval),
        time=wire.time(message.evaluation_time),
        evidence_sha256=message.evidence_sha256,
    )


def _interval(message: evaluation_pb2.ConfidenceInterval) -> cards.ConfidenceInterval:
    return cards.ConfidenceInterval(message.confidence, message.low, message.high)


def _opening(message: model_service_pb2.OpeningChange) -> cards.OpeningChange:
    return cards.OpeningChange(
        time=wire.time(message.transition_time),
        from_stage=message.from_stage,
        to_stage=message.to_stage,
        before=wire.audience(message.open_before),
        after=wire.audience(message.open_after),
        evidence_sha256=tuple(message.evidence_sha256),
    )
