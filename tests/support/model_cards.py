"""A model's card as a server sends it, and as the client gives it."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.client import (
    Audience,
    BiasEvaluation,
    ConfidenceInterval,
    MemorisationEvaluation,
    OpeningChange,
    WatermarkEvaluation,
    WatermarkPower,
)
from sluicegate.v1 import evaluation_pb2 as pb
from sluicegate.v1 import model_service_pb2

TIME = datetime(2026, 1, 10, 12, tzinfo=UTC)
STAMP = Timestamp(seconds=int(TIME.timestamp()))

MODEL = model_service_pb2.Model(
    id="gpt2-774m",
    description="The third of the family.",
    parameters=774_030_080,
    context_length=1_024,
    vocabulary_size=50_257,
    weights_sha256="a" * 64,
    license="MIT",
    source="openai-community/gpt2-large",
    intended_use="Research.",
    stage="s2",
    open_to=model_service_pb2.AUDIENCE_PARTNER,
    state=model_service_pb2.MODEL_STATE_READY,
    caller_access=model_service_pb2.CallerAccess(allowed=True, agreement="agr-1"),
    dtype="bfloat16",
)
CARD = model_service_pb2.ModelCard(
    bias=[
        pb.BiasEvaluation(
            suite="winobias",
            suite_sha256="b" * 64,
            pairs=1_584,
            ties=2,
            share=0.581,
            interval=pb.ConfidenceInterval(confidence=0.95, low=0.556, high=0.605),
            mean_absolute_delta=1.025,
            evaluation_time=STAMP,
            evidence_sha256="1" * 64,
        ),
        pb.BiasEvaluation(suite="occupations", pairs=3, ties=3, evaluation_time=STAMP),
    ],
    watermark=pb.WatermarkEvaluation(
        watermark_id="wm-1",
        false_positive_rate=0.001,
        power=[pb.WatermarkPower(temperature=0.7, tokens=200, texts=400, rate=0.985)],
        prose_texts=10_000,
        prose_rate=0.0009,
        evaluation_time=STAMP,
        evidence_sha256="2" * 64,
    ),
    memorisation=[
        pb.MemorisationEvaluation(
            corpus_sha256="c" * 64,
            prompt_tokens=50,
            max_output_tokens=256,
            temperature=1,
            top_k=40,
            least_tokens=50,
            samples=1_000,
            matched=2,
            rate=0.002,
            interval=pb.ConfidenceInterval(confidence=0.95, low=0.0002, high=0.0072),
            evaluation_time=STAMP,
            evidence_sha256="3" * 64,
        )
    ],
    openings=[
        model_service_pb2.OpeningChange(
            transition_time=STAMP,
            from_stage="s1",
            to_stage="s2",
            open_after=model_service_pb2.AUDIENCE_PARTNER,
            evidence_sha256=["1" * 64, "2" * 64],
        )
    ],
)
SENT = model_service_pb2.GetModelResponse(model=MODEL, card=CARD)

BIAS = (
    BiasEvaluation(
        suite="winobias",
        suite_sha256="b" * 64,
        pairs=1_584,
        ties=2,
        share=0.581,
        interval=ConfidenceInterval(0.95, 0.556, 0.605),
        mean_absolute_delta=1.025,
        time=TIME,
        evidence_sha256="1" * 64,
    ),
    BiasEvaluation("occupations", "", 3, 3, None, None, 0.0, TIME, ""),
)
WATERMARK = WatermarkEvaluation(
    watermark_id="wm-1",
    false_positive_rate=0.001,
    power=(WatermarkPower(0.7, 200, 400, 0.985),),
    prose_texts=10_000,
    prose_rate=0.0009,
    time=TIME,
    evidence_sha256="2" * 64,
)
MEMORISATION = MemorisationEvaluation(
    corpus_sha256="c" * 64,
    prompt_tokens=50,
    max_output_tokens=256,
    temperature=1.0,
    top_k=40,
    least_tokens=50,
    samples=1_000,
    matched=2,
    rate=0.002,
    interval=ConfidenceInterval(0.95, 0.0002, 0.0072),
    time=TIME,
    evidence_sha256="3" * 64,
)
OPENING = OpeningChange(TIME, "s1", "s2", Audience.UNSPECIFIED, Audience.PARTNER, ("1" * 64, "2" * 64))
