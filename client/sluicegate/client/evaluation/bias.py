"""The bias evaluation: both sentences of every pair scored, and what comes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sluicegate.client.errors import MeasurementRefused
from sluicegate.client.evaluation.journal import Entry, Journal
from sluicegate.client.evaluation.log_probabilities import log_probability
from sluicegate.client.evaluation.rates import interval, mcnemar
from sluicegate.client.evaluation.subject import ModelUnderTest
from sluicegate.client.evaluation.suites import Pair, Suite
from sluicegate.client.parallel import for_each
from sluicegate.client.results import Score
from sluicegate.evidence.bias import (
    DECIMALS,
    BiasEvidence,
    CategoryFigures,
    Comparison,
    Figures,
    PairResult,
    SuiteFacts,
    counted,
    means,
    share_of,
)

ScoreText = Callable[[str], Awaitable[Score]]
"""Log-probabilities of a text behind the end-of-text token, nats."""


def run_facts(suite: Suite, model: ModelUnderTest) -> Mapping[str, object]:
    """What a journal must have been begun for."""
    return {
        "evaluation": "bias",
        "model": model.id,
        "weights": model.weights_sha256,
        "computed in": model.dtype,
        "suite": suite.name,
        "sentences": suite.sha256,
        "data files": list(suite.data_sha256),
    }


@dataclass(frozen=True, slots=True)
class Measurement:
    """The work on the pairs of one suite with one model. The journal is one of `run_facts`."""

    suite: Suite
    model: ModelUnderTest
    journal: Journal

    @property
    def done(self) -> Mapping[str, Entry]:
        """The journal's entries by pair. Raises FileRefused for an entry that is none of this suite."""
        known = {pair.id for pair in self.suite.pairs}
        found = {}
        for entry in self.journal.entries:
            if set(entry) != _MEMBERS or entry["pair"] not in known or entry["pair"] in found:
                raise self.journal.refuse("has an entry that is no result of this suite")
            found[entry["pair"]] = entry
        return found

    async def measure(self, score: ScoreText, advance: Callable[[int], None], concurrency: int) -> None:
        """Score what is not done. The first error ends it: MeasurementRefused, or what `score` raises."""

        async def work(pair: Pair) -> None:
            entry: Entry = {"pair": pair.id, "ran_under": []}
            for side, text in (("stereotype", pair.stereotype), ("other", pair.other)):
                answer = await score(text)
                entry["ran_under"].append(self.model.require(answer.started))
                entry[side] = log_probability(answer.tokens, f"a sentence of pair {pair.id}")
            self.journal.add(entry)
            advance(1)

        done = self.done
        await for_each([pair for pair in self.suite.pairs if pair.id not in done], work, concurrency)
        self.journal.end()

    def evidence(self, tool: str, other: tuple[BiasEvidence, str] | None) -> BiasEvidence:
        """All pairs are measured. `other`: another model's evidence on the same suite, and its file's digest."""
        done, ended = self.done, self.journal.ended
        assert ended is not None
        pairs = tuple(_result(pair, done[pair.id]) for pair in self.suite.pairs)
        categories = sorted({pair.category for pair in pairs})
        return BiasEvidence(
            tool=tool,
            began=self.journal.began,
            ended=ended,
            subject=self.model.subject(each for entry in done.values() for each in entry["ran_under"]),
            suite=SuiteFacts(
                name=self.suite.name,
                sha256=self.suite.sha256,
                data_sha256=self.suite.data_sha256,
                left_out=self.suite.left_out,
            ),
            figures=figures(pairs),
            categories=tuple(
                CategoryFigures(category=name, figures=figures([pair for pair in pairs if pair.category == name]))
                for name in categories
            ),
            comparison=None if other is None else compare(pairs, self.suite.sha256, *other),
            pairs=pairs,
        )


def figures(pairs: Sequence[PairResult]) -> Figures:
    """Of at least one pair."""
    stereotype, other, ties = counted(pairs)
    mean_absolute_delta, mean_delta = means(pairs)
    return Figures(
        prefer_stereotype=stereotype,
        prefer_other=other,
        ties=ties,
        share=share_of(stereotype, other),
        interval=interval(stereotype, stereotype + other) if stereotype + other else None,
        mean_absolute_delta=mean_absolute_delta,
        mean_delta=mean_delta,
    )


def compare(pairs: Sequence[PairResult], suite_sha256: str, other: BiasEvidence, other_sha256: str) -> Comparison:
    """The exact McNemar test against another model's evidence. Raises MeasurementRefused if it is of other pairs."""
    if other.suite.sha256 != suite_sha256:
        raise MeasurementRefused(
            f"the evidence of {other.subject.model} is of other sentences than this run: compare runs of one suite"
        )
    both = [(mine.delta, theirs.delta) for mine, theirs in zip(pairs, other.pairs, strict=True)]
    only_this = sum(mine > 0 > theirs for mine, theirs in both)
    only_other = sum(mine < 0 < theirs for mine, theirs in both)
    return Comparison(
        model=other.subject.model,
        weights_sha256=other.subject.weights_sha256,
        evidence_sha256=other_sha256,
        only_this=only_this,
        only_other=only_other,
        p_value=mcnemar(only_this, only_other),
    )


_MEMBERS = {"pair", "stereotype", "other", "ran_under"}


def _result(pair: Pair, entry: Entry) -> PairResult:
    return PairResult(
        id=pair.id,
        category=pair.category,
        stereotype=round(entry["stereotype"], DECIMALS),
        other=round(entry["other"], DECIMALS),
    )
