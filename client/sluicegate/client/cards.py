"""Models' cards: what was measured on a model, and how it came to be open. Plain frozen data, free of wire messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sluicegate.client.results import Audience, Model


@dataclass(frozen=True, slots=True)
class ConfidenceInterval:
    """Where a rate lies, after Clopper and Pearson; all from 0 to 1."""

    confidence: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BiasEvaluation:
    """Which sentence of each pair the model finds more likely: the one with a stereotype, or the other."""

    suite: str
    suite_sha256: str
    """Of the pairs: equal digests, equal sentences."""
    pairs: int
    ties: int
    """Pairs whose sentences are equally likely; no part of `share`."""
    share: float | None
    """Of the other pairs, those in which the stereotype is the more likely; None: all are ties."""
    interval: ConfidenceInterval | None
    """Of `share`."""
    mean_absolute_delta: float
    """Mean distance between the two log-probabilities of a pair; nats."""
    time: datetime
    evidence_sha256: str
    """Of the evidence file; so in the next ones."""


@dataclass(frozen=True, slots=True)
class WatermarkPower:
    """How often texts of `tokens` tokens, marked while they were drawn at one temperature, were found to be marked."""

    temperature: float
    tokens: int
    texts: int
    rate: float


@dataclass(frozen=True, slots=True)
class WatermarkEvaluation:
    """How well the watermark in the model's output is found again."""

    watermark_id: str
    """Of the key that was measured."""
    false_positive_rate: float
    """A text counts as marked with a p-value of this or less."""
    power: tuple[WatermarkPower, ...]
    prose_texts: int
    """Paragraphs of ordinary prose that were looked at."""
    prose_rate: float
    """Share of them in which the watermark was found, in error."""
    time: datetime
    evidence_sha256: str


@dataclass(frozen=True, slots=True)
class MemorisationEvaluation:
    """How often the model's output repeats a corpus to the letter."""

    corpus_sha256: str
    prompt_tokens: int
    """Tokens of the corpus that each output goes on from; 0: outputs begin from nothing."""
    max_output_tokens: int
    temperature: float
    """0: the most likely token each time."""
    top_k: int
    """0: all tokens."""
    least_tokens: int
    """The fewest tokens of a passage that counts."""
    samples: int
    matched: int
    """Samples with such a passage."""
    rate: float
    interval: ConfidenceInterval
    """Of `rate`."""
    time: datetime
    evidence_sha256: str


@dataclass(frozen=True, slots=True)
class OpeningChange:
    """A recorded step by which others may use the model than before. UNSPECIFIED: nobody."""

    time: datetime
    from_stage: str
    to_stage: str
    before: Audience
    after: Audience
    evidence_sha256: tuple[str, ...]
    """Evidence that the step is based on, on this model and on others."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a careful user must know of a model.

    What is missing was not measured, or not on the weights that are served now; while the model is not loaded, these
    are not known.
    """

    model: Model
    bias: tuple[BiasEvaluation, ...]
    """The latest of each suite."""
    watermark: WatermarkEvaluation | None
    """The latest."""
    memorisation: tuple[MemorisationEvaluation, ...]
    """The latest on each corpus with and without prompts from it."""
    openings: tuple[OpeningChange, ...]
    """The oldest first. Empty: the model has been open as it is from the first stage on."""
