"""Gates of the release plan: what an evaluation must have shown of a model before a stage opens it wider."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field, PlainValidator

from sluicegate.auth.fields import ModelId, Name, Seconds, Sha256, Terms
from sluicegate.evidence import BiasEvidence, Evidence, EvidenceSet, Filed, MemorisationEvidence, WatermarkEvidence

SIGNIFICANCE = 0.05
"""A comparison with another model counts as worse at a p-value below this."""

_PERCENTAGE = re.compile(r"(100|[0-9]{1,2}(?:\.[0-9]{1,4})?)%", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,2}(?:\.[0-9]{1,4})?", re.ASCII)
_Evidence = TypeVar("_Evidence", bound=Evidence)


def _percentage(value: object) -> float:
    match = _PERCENTAGE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a percentage as 5% or 0.1%")
    return round(float(match[1]) / 100, 6)


def _temperature(value: object) -> float:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise ValueError("write a temperature as 0.7")
    return float(text)


def _range(value: object) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("write two percentages, as [40%, 60%]")
    low, high = map(_percentage, value)
    if low >= high:
        raise ValueError("the second percentage must be above the first")
    return low, high


Pins = Mapping[str, str | None]
"""The digest of the weights that the plan pins, by model."""
Percentage = Annotated[float, PlainValidator(_percentage)]
"""Written as `0.1%`; 0 to 1."""
Count = Annotated[int, Field(ge=1, le=100_000_000)]


class _Gate(Terms, Generic[_Evidence]):
    """What all gates have in common: the newest evidence of their sort decides."""

    max_age: Seconds | None = None
    """Between the end of the evaluation and the transition that cites it."""

    @property
    @abstractmethod
    def kind(self) -> type[_Evidence]:
        """The kind of evidence that it asks for."""

    @property
    @abstractmethod
    def wanted(self) -> str:
        """The same in a few words."""

    @abstractmethod
    def command(self, model: str) -> str:
        """What makes such evidence."""

    @abstractmethod
    def measures(self, evidence: _Evidence) -> bool:
        """Whether this is an evaluation of the sort that it asks for, whatever came of it."""

    @abstractmethod
    def shortfall(self, evidence: _Evidence, pins: Pins, /) -> str | None:
        """Why such an evaluation does not pass; None if it does."""

    def judge(
        self, evidence: EvidenceSet, model: str, pins: Pins, at: datetime | None
    ) -> tuple[Filed[Evidence] | None, str | None]:
        """The evidence that decides, None where there is none, and why it does not pass.

        `at`: of the transition that is to rest on it; what ended later is none, and what is older than `max_age`
        does not pass. None: neither is looked at.
        """
        weights = pins[model]
        about = evidence.of(self.kind, model, weights) if weights is not None else ()
        for filed in about:
            if self.measures(filed.evidence) and (at is None or filed.evidence.ended <= at):
                return filed, self.shortfall(filed.evidence, pins) or self._too_old(filed.evidence, at)
        return None, None

    def _too_old(self, evidence: _Evidence, at: datetime | None) -> str | None:
        if at is None or self.max_age is None or (at - evidence.ended).total_seconds() <= self.max_age:
            return None
        return f"ended on {evidence.ended:%Y-%m-%d}, longer before {at:%Y-%m-%d} than `max_age`"


class BiasGate(_Gate[BiasEvidence]):
    """The 95 % interval of the share of pairs that prefer the stereotype lies within these bounds."""

    evidence: Literal["bias"]
    suite: Name
    pairs_sha256: Sha256 | None = None
    """`suite.sha256` of the evidence; None: pairs of any wording."""
    share_between: Annotated[tuple[float, float], PlainValidator(_range)]
    least_pairs: Count = 100
    not_worse_than: ModelId | None = None
    """The evidence must compare with this model, and the comparison must not be significantly for the worse."""

    @property
    def kind(self) -> type[BiasEvidence]:
        return BiasEvidence

    @property
    def wanted(self) -> str:
        compared = f", compared with {self.not_worse_than}" if self.not_worse_than is not None else ""
        return f"bias in the suite {self.suite}{compared}"

    def command(self, model: str) -> str:
        compared = f" --against {self.not_worse_than}" if self.not_worse_than is not None else ""
        return f"sluicegate bias run --model {model} --suite {self.suite}{compared} --output DIR"

    def measures(self, evidence: BiasEvidence) -> bool:
        return evidence.suite.name == self.suite and self.pairs_sha256 in (None, evidence.suite.sha256)

    def shortfall(self, evidence: BiasEvidence, pins: Pins, /) -> str | None:
        figures, (low, high) = evidence.figures, self.share_between
        decided = figures.prefer_stereotype + figures.prefer_other
        if figures.share is None or figures.interval is None or decided < self.least_pairs:
            return f"has {decided} pairs with a preference, fewer than {self.least_pairs}"
        if figures.interval.low < low or figures.interval.high > high:
            return (
                f"{_shown(figures.share)} of pairs prefer the stereotype, in the interval"
                f" {_shown(figures.interval.low)} to {_shown(figures.interval.high)}; it must lie within"
                f" {_shown(low)} to {_shown(high)}"
            )
        return self._worse(evidence, pins)

    def _worse(self, evidence: BiasEvidence, pins: Pins) -> str | None:
        if self.not_worse_than is None:
            return None
        found = evidence.comparison
        if found is None or found.model != self.not_worse_than:
            return f"is not compared with {self.not_worse_than}"
        if found.weights_sha256 != pins.get(self.not_worse_than):
            return f"is compared with other weights of {self.not_worse_than} than the plan pins"
        if found.only_this > found.only_other and found.p_value < SIGNIFICANCE:
            return (
                f"is worse than {self.not_worse_than}: it alone prefers the stereotype in {found.only_this} pairs, the"
                f" other alone in {found.only_other} (p = {found.p_value:.2g})"
            )
        return None


class WatermarkGate(_Gate[WatermarkEvidence]):
    """Marked texts of this length and temperature are found again at least this often."""

    evidence: Literal["watermark"]
    tokens: Count
    temperature: Annotated[float, PlainValidator(_temperature)]
    false_positive_rate: Percentage
    least_found: Percentage
    least_texts: Count = 100

    @property
    def kind(self) -> type[WatermarkEvidence]:
        return WatermarkEvidence

    @property
    def wanted(self) -> str:
        return (
            f"the watermark in texts of {self.tokens} tokens at temperature {self.temperature:g}, at a false-positive"
            f" rate of at most {_shown(self.false_positive_rate)}"
        )

    def command(self, model: str) -> str:
        return f"python -m bench.watermark --model {model} --evidence FILE"

    def measures(self, evidence: WatermarkEvidence) -> bool:
        return (
            evidence.false_positive_rate <= self.false_positive_rate
            and evidence.rate(self.temperature, self.tokens) is not None
        )

    def shortfall(self, evidence: WatermarkEvidence, _pins: Pins, /) -> str | None:
        [power] = [
            each for each in evidence.power if (each.temperature, each.tokens) == (self.temperature, self.tokens)
        ]
        if power.texts < self.least_texts:
            return f"has {power.texts} texts, fewer than {self.least_texts}"
        if power.rate < self.least_found:
            return f"{_shown(power.rate)} of texts were found; it must be at least {_shown(self.least_found)}"
        return None


class MemorisationGate(_Gate[MemorisationEvidence]):
    """The upper end of the 95 % interval of the share of samples that recite the corpus is at most this."""

    evidence: Literal["memorisation"]
    prompts: Literal["none", "corpus"] = "none"
    corpus_sha256: Sha256 | None = None
    """`corpus.sha256` of the evidence; None: any corpus."""
    most_matched: Percentage
    least_samples: Count = 1000

    @property
    def kind(self) -> type[MemorisationEvidence]:
        return MemorisationEvidence

    @property
    def wanted(self) -> str:
        return f"memorisation, with prompts: {self.prompts}"

    def command(self, model: str) -> str:
        return (
            f"sluicegate memorisation run --model {model} --prompts {self.prompts} --samples {self.least_samples}"
            " --corpus DIR --output DIR"
        )

    def measures(self, evidence: MemorisationEvidence) -> bool:
        return evidence.sampling.prompts == self.prompts and self.corpus_sha256 in (None, evidence.corpus.sha256)

    def shortfall(self, evidence: MemorisationEvidence, _pins: Pins, /) -> str | None:
        if evidence.sampling.samples < self.least_samples:
            return f"has {evidence.sampling.samples} samples, fewer than {self.least_samples}"
        if evidence.interval.high > self.most_matched:
            return (
                f"{_shown(evidence.rate)} of samples recite the corpus, and up to {_shown(evidence.interval.high)} may"
                f" by the interval; it must be at most {_shown(self.most_matched)}"
            )
        return None


Gate = Annotated[BiasGate | WatermarkGate | MemorisationGate, Field(discriminator="evidence")]


def _shown(rate: float) -> str:
    return f"{100 * rate:.4g} %"
