from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest
from bias_runs import LOG_PROBABILITIES, MODEL, SUITE, evidence_of, journal, score_of, started

from sluicegate.client.errors import FileRefused, MeasurementRefused, QuotaExceeded
from sluicegate.client.evaluation.bias import Measurement, compare
from sluicegate.client.evaluation.subject import ModelUnderTest
from sluicegate.client.evaluation.suites import Pair, Suite
from sluicegate.client.results import Score
from sluicegate.evidence import digest, encode


class Scores:
    """Scores from a table; those of `fails` raise once."""

    def __init__(self, table: Mapping[str, float] = LOG_PROBABILITIES, fails: str | None = None) -> None:
        self.table = table
        self.fails = fails
        self.asked: list[str] = []

    async def __call__(self, text: str) -> Score:
        if text == self.fails:
            self.fails = None
            raise QuotaExceeded("quota", code=grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.asked.append(text)
        return score_of(self.table[text])


async def test_shares_means_and_categories_are_those_of_the_pairs(tmp_path: Path) -> None:
    evidence = await evidence_of(tmp_path / "journal")

    figures = evidence.figures
    assert (figures.prefer_stereotype, figures.prefer_other, figures.ties, figures.share) == (1, 1, 1, 0.5)
    assert (figures.mean_absolute_delta, figures.mean_delta) == (0.5, round(0.5 / 3, 6))
    assert [(each.category, each.figures.share) for each in evidence.categories] == [("he", 1.0), ("she", 0.0)]
    assert [pair.id for pair in evidence.pairs] == ["a", "b", "c"]
    assert evidence.subject.weights_sha256 == MODEL.weights_sha256
    assert [(each.stage, each.policy_revision) for each in evidence.subject.served_under] == [("s1", "r1")]


async def test_nothing_but_ties_has_no_share(tmp_path: Path) -> None:
    evidence = await evidence_of(tmp_path / "journal", dict.fromkeys(LOG_PROBABILITIES, -1.0))

    assert (evidence.figures.share, evidence.figures.interval, evidence.figures.ties) == (None, None, 3)


async def test_what_rounding_of_sums_leaves_is_a_tie(tmp_path: Path) -> None:
    noise = {**LOG_PROBABILITIES, "c other": -5.00004}

    assert (await evidence_of(tmp_path / "journal", noise)).figures.ties == 1


async def test_an_interrupted_run_goes_on_where_it_stopped_and_says_the_same(tmp_path: Path) -> None:
    whole = await evidence_of(tmp_path / "whole")
    scores = Scores(fails="b other")

    with journal(tmp_path / "cut") as opened, pytest.raises(QuotaExceeded):
        await Measurement(SUITE, MODEL, opened).measure(scores, lambda _: None, 1)
    with journal(tmp_path / "cut") as opened:
        work = Measurement(SUITE, MODEL, opened)
        assert list(work.done) == ["a"]
        await work.measure(scores, lambda _: None, 1)
        resumed = work.evidence("sluicegate 0.1.0", None)

    assert scores.asked.count("a stereotype") == 1
    assert resumed.pairs == whole.pairs
    assert resumed.figures == whole.figures


async def test_a_run_that_is_over_measures_nothing_and_makes_the_same_file(tmp_path: Path) -> None:
    first = await evidence_of(tmp_path / "journal")

    again = await evidence_of(tmp_path / "journal", {})

    assert encode(again) == encode(first)


async def test_a_run_that_is_cancelled_keeps_what_it_has(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def score(text: str) -> Score:
        if text == "b other":
            reached.set()
            await asyncio.Event().wait()
        return score_of(LOG_PROBABILITIES[text])

    with journal(tmp_path / "journal") as opened:
        work = Measurement(SUITE, MODEL, opened)
        running = asyncio.create_task(work.measure(score, lambda _: None, 1))
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    with journal(tmp_path / "journal") as opened:
        assert [entry["pair"] for entry in opened.entries] == ["a"]
        assert opened.ended is None


@pytest.mark.parametrize("log_probabilities", [[math.nan], [-math.inf, -1.0], [None], [-1.0, None], []])
async def test_a_score_that_is_no_finite_number_ends_the_run_with_the_pair(
    log_probabilities: list[float | None], tmp_path: Path
) -> None:
    async def score(text: str) -> Score:
        return score_of(*log_probabilities)

    with journal(tmp_path / "journal") as opened:
        with pytest.raises(MeasurementRefused, match="no finite log-probability for a sentence of pair a"):
            await Measurement(SUITE, MODEL, opened).measure(score, lambda _: None, 1)
        assert opened.entries == []


async def test_other_weights_in_mid_run_end_it(tmp_path: Path) -> None:
    async def score(text: str) -> Score:
        return score_of(-1.0, ran_under=started(weights="cd" * 32 if text == "b other" else MODEL.weights_sha256))

    with journal(tmp_path / "journal") as opened:
        with pytest.raises(MeasurementRefused, match="other weights of gpt2-124m"):
            await Measurement(SUITE, MODEL, opened).measure(score, lambda _: None, 1)
        assert [entry["pair"] for entry in opened.entries] == ["a"]


async def test_a_policy_that_changes_in_mid_run_is_told(tmp_path: Path) -> None:
    async def score(text: str) -> Score:
        return score_of(-1.0, ran_under=started(revision="r2" if text == "c other" else "r1"))

    with journal(tmp_path / "journal") as opened:
        work = Measurement(SUITE, MODEL, opened)
        await work.measure(score, lambda _: None, 1)
        evidence = work.evidence("tool", None)

    assert [each.policy_revision for each in evidence.subject.served_under] == ["r1", "r2"]


async def test_a_journal_of_other_sentences_or_weights_is_refused(tmp_path: Path) -> None:
    await evidence_of(tmp_path / "journal")
    changed = Suite(SUITE.name, (*SUITE.pairs[:2], Pair("c", "she", "c stereotype", "c changed")))
    weights = ModelUnderTest(MODEL.id, "cd" * 32, MODEL.dtype)

    with pytest.raises(FileRefused, match="differs in: sentences"):
        journal(tmp_path / "journal", changed)
    with pytest.raises(FileRefused, match="differs in: weights"):
        journal(tmp_path / "journal", SUITE, weights)


@pytest.mark.parametrize(
    "entry",
    [
        {"pair": "z", "stereotype": 1.0, "other": 1.0, "ran_under": []},
        {"pair": "a", "stereotype": 1.0},
        {},
    ],
)
async def test_an_entry_that_is_no_result_of_the_suite_is_refused(entry: dict[str, object], tmp_path: Path) -> None:
    with journal(tmp_path / "journal") as opened:
        opened.add(entry)

        with pytest.raises(FileRefused, match="no result of this suite"):
            _ = Measurement(SUITE, MODEL, opened).done


async def test_models_are_compared_on_pairs_that_both_have_a_preference_in(tmp_path: Path) -> None:
    other = await evidence_of(
        tmp_path / "other",
        {**LOG_PROBABILITIES, "a stereotype": -9.0, "b stereotype": -1.0, "c stereotype": -1.0},
    )
    this = await evidence_of(tmp_path / "this")

    found = compare(this.pairs, this.suite.sha256, other, digest(encode(other)))

    assert (found.only_this, found.only_other, found.p_value) == (1, 1, 1.0)
    assert (found.model, found.evidence_sha256) == ("gpt2-124m", digest(encode(other)))


async def test_evidence_of_other_sentences_is_not_compared(tmp_path: Path) -> None:
    other = await evidence_of(tmp_path / "other", suite=Suite(SUITE.name, SUITE.pairs[:2]))
    this = await evidence_of(tmp_path / "this")

    with pytest.raises(MeasurementRefused, match="of other sentences"):
        compare(this.pairs, this.suite.sha256, other, "")
