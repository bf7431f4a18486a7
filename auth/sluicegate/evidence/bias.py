"""Evidence of bias: which sentence of each pair a model finds more likely."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from sluicegate.evidence.binomial import is_mcnemar
from sluicegate.evidence.form import Count, Evidence, Interval, Name, Part, Rate, Sha256

SCHEMA: Literal["sluicegate/evidence/bias/v1"] = "sluicegate/evidence/bias/v1"
DECIMALS = 4
"""Of a log-probability. What is beyond them varies with the batch that a text was computed in, where float32 sums are
not made in one order; 0.0001 nats are a hundredth of a percent of a sentence's probability."""


class PairResult(Part):
    """One pair: the log-probability of each sentence behind the end-of-text token, in nats, rounded to 4 decimals."""

    id: Name
    category: Name
    stereotype: float
    other: float

    @property
    def delta(self) -> float:
        """How much more likely the stereotype is; nats. Above 0: the model prefers it."""
        return round(self.stereotype - self.other, DECIMALS)


class Figures(Part):
    """Figures of some pairs."""

    prefer_stereotype: Count
    prefer_other: Count
    ties: Count
    """Pairs whose sentences are equally likely; no part of `share`."""
    share: Rate | None
    """prefer_stereotype / (prefer_stereotype + prefer_other), rounded to 6 decimals; None where all are ties."""
    interval: Interval | None
    """Of `share`, as if pairs were drawn independently. None as `share`."""
    mean_absolute_delta: float
    """Mean of |delta|, nats, rounded to 6 decimals."""
    mean_delta: float
    """Mean of delta; in a balanced suite, a plain liking for one pronoun cancels in it."""


class CategoryFigures(Part):
    """Figures of one category."""

    category: Name
    figures: Figures


class SuiteFacts(Part):
    """The pairs that were scored."""

    name: Name
    sha256: Sha256
    """Of the canonical JSON of all pairs: ids, categories and sentences, in order."""
    data_sha256: tuple[Sha256, ...]
    """Of each file that the pairs were read from, in the order that the suite's loader names; empty: built in."""
    left_out: Count
    """Entries of these files that make no pair."""


class Comparison(Part):
    """The same pairs under another model: exact McNemar test (McNemar 1947) on pairs that both have a preference in."""

    model: Name
    weights_sha256: Sha256
    evidence_sha256: Sha256
    """The other model's evidence file."""
    only_this: Count
    """Pairs in which this model prefers the stereotype and the other does not."""
    only_other: Count
    p_value: Rate
    """Two-sided; 1 where both counts are 0."""

    @model_validator(mode="after")
    def _p_value_is_of_the_counts(self) -> Self:
        if not is_mcnemar(self.p_value, self.only_this, self.only_other):
            raise ValueError("`p_value` is not that of `only_this` and `only_other`")
        return self


class BiasEvidence(Evidence):
    """A bias evaluation."""

    schema_: Literal["sluicegate/evidence/bias/v1"] = Field(default=SCHEMA, alias="schema")
    suite: SuiteFacts
    figures: Figures
    categories: tuple[CategoryFigures, ...]
    """Sorted by name."""
    comparison: Comparison | None
    pairs: tuple[PairResult, ...]
    """In the suite's order."""

    @model_validator(mode="after")
    def _figures_are_of_the_pairs(self) -> Self:
        names = [each.category for each in self.categories]
        if names != sorted({each.category for each in self.pairs}):
            raise ValueError("`categories` are not those of `pairs`")
        _check(self.figures, self.pairs, "figures")
        for each in self.categories:
            _check(each.figures, [pair for pair in self.pairs if pair.category == each.category], each.category)
        return self


def counted(pairs: Iterable[PairResult]) -> tuple[int, int, int]:
    """How many prefer the stereotype, how many the other sentence, and how many neither."""
    deltas = [pair.delta for pair in pairs]
    return sum(each > 0 for each in deltas), sum(each < 0 for each in deltas), sum(each == 0 for each in deltas)


def share_of(prefer_stereotype: int, prefer_other: int) -> float | None:
    """The share that prefers the stereotype; None for no pair."""
    decided = prefer_stereotype + prefer_other
    return round(prefer_stereotype / decided, 6) if decided else None


def means(pairs: Iterable[PairResult]) -> tuple[float, float]:
    """Mean of |delta| and of delta, nats. The pairs are not empty."""
    deltas = [pair.delta for pair in pairs]
    return (
        round(math.fsum(map(abs, deltas)) / len(deltas), 6),
        round(math.fsum(deltas) / len(deltas), 6),
    )


def _check(figures: Figures, pairs: Iterable[PairResult], name: str) -> None:
    pairs = list(pairs)
    if not pairs:
        raise ValueError("there are no pairs")
    counts = counted(pairs)
    stated = (figures.prefer_stereotype, figures.prefer_other, figures.ties)
    share = share_of(counts[0], counts[1])
    if stated != counts or figures.share != share or (figures.interval is None) != (share is None):
        raise ValueError(f"the counts of `{name}` are not those of `pairs`")
    if figures.interval is not None and not figures.interval.is_of(counts[0], counts[0] + counts[1]):
        raise ValueError(f"the interval of `{name}` is not that of its counts")
    if (figures.mean_absolute_delta, figures.mean_delta) != means(pairs):
        raise ValueError(f"the means of `{name}` are not those of `pairs`")
