"""Evidence of a watermark's power: how often it is found again, and how often where there is none."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from sluicegate.evidence.form import Count, Evidence, Name, Part, Rate, Sha256

SCHEMA: Literal["sluicegate/evidence/watermark/v1"] = "sluicegate/evidence/watermark/v1"


class Found(Part):
    """In how many of some texts the watermark was found: with a p-value of the false positive rate or less."""

    texts: Count
    found: Count
    rate: Rate
    """found / texts, rounded to 6 decimals."""

    @model_validator(mode="after")
    def _rate_is_of_the_counts(self) -> Self:
        if not 0 <= self.found <= self.texts or not self.texts or self.rate != round(self.found / self.texts, 6):
            raise ValueError("`rate` is not that of `found` and `texts`")
        return self


class Power(Found):
    """Of marked texts of one length, drawn at one temperature."""

    temperature: float
    tokens: Count
    """Of each text. Detected after decoding and tokenizing anew, as a text that comes in is."""
    entropy: float
    """Mean entropy of the distribution that a token was drawn from, nats: how much choice there was to mark."""


class Robustness(Found):
    """Of marked texts that were changed, or looked at in another way."""

    change: Name
    """As `30 % of tokens replaced`."""
    temperature: float
    tokens: Count


class Prose(Found):
    """Of ordinary prose: what is found there is found in error."""

    sha256: Sha256
    """Of the file that the paragraphs were taken from."""


class WatermarkEvidence(Evidence):
    """A measurement of one key's mark in one model's output."""

    schema_: Literal["sluicegate/evidence/watermark/v1"] = Field(default=SCHEMA, alias="schema")
    watermark_id: Name
    false_positive_rate: Rate
    power: tuple[Power, ...]
    robustness: tuple[Robustness, ...]
    prose: Prose
    perplexity_plain: float
    """Of text without the mark under the model that wrote it, drawn at temperature 1 among as many candidates."""
    perplexity_marked: float

    def rate(self, temperature: float, tokens: int) -> float | None:
        """The true positive rate of unchanged texts; None where it was not measured."""
        found = [each for each in self.power if (each.temperature, each.tokens) == (temperature, tokens)]
        return found[0].rate if found else None
