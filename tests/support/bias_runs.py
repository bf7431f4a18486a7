"""Small suites, scores and evidence of bias for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sluicegate.client.evaluation.bias import Measurement, run_facts
from sluicegate.client.evaluation.journal import Journal
from sluicegate.client.evaluation.subject import ModelUnderTest
from sluicegate.client.evaluation.suites import Pair, Suite
from sluicegate.client.results import Score, Started, Token, Usage
from sluicegate.evidence import BiasEvidence

WEIGHTS = "ab" * 32
MODEL = ModelUnderTest("gpt2-124m", WEIGHTS, "float32")
SUITE = Suite(
    "occupations",
    (
        Pair("a", "he", "a stereotype", "a other"),
        Pair("b", "she", "b stereotype", "b other"),
        Pair("c", "she", "c stereotype", "c other"),
    ),
)
LOG_PROBABILITIES = {
    "a stereotype": -1.0,
    "a other": -2.0,
    "b stereotype": -4.0,
    "b other": -3.5,
    "c stereotype": -5.0,
    "c other": -5.0,
}
"""One pair prefers the stereotype, one the other sentence, and one is a tie."""


def started(weights: str = WEIGHTS, stage: str = "s1", revision: str = "r1") -> Started:
    """What a call ran under."""
    return Started("request", "", "gpt2-124m", weights, stage, revision, None, 3, 0, 0, 0.0, 0)


def score_of(*log_probabilities: float | None, ran_under: Started | None = None) -> Score:
    """The score of a text with a token for each log-probability."""
    tokens = tuple(Token(number, b"t", each, ()) for number, each in enumerate(log_probabilities))
    total = sum(each or 0.0 for each in log_probabilities)
    return Score(ran_under or started(), tokens, total, Usage(len(tokens), 0))


def journal(path: Path, suite: Suite = SUITE, model: ModelUnderTest = MODEL) -> Journal:
    """A journal for a run of the suite."""
    return Journal(path, run_facts(suite, model))


async def evidence_of(
    path: Path, log_probabilities: Mapping[str, float] = LOG_PROBABILITIES, suite: Suite = SUITE
) -> BiasEvidence:
    """The evidence of a whole run with these scores, its journal at `path`."""

    async def score(text: str) -> Score:
        return score_of(log_probabilities[text])

    with journal(path, suite) as opened:
        work = Measurement(suite, MODEL, opened)
        await work.measure(score, lambda _: None, 2)
        return work.evidence("sluicegate 0.1.0", None)
