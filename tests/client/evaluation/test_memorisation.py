from __future__ import annotations

import math
import zlib
from pathlib import Path

import grpc
import pytest
from bias_runs import MODEL
from memorisation_runs import (
    OTHER,
    RECITED,
    SAMPLING,
    Model,
    Questions,
    corpus_of,
    evidence_of,
    generation,
    journal,
    text,
)

from sluicegate.client.errors import FileRefused, MeasurementRefused, QuotaExceeded
from sluicegate.client.evaluation.memorisation import Check, Place
from sluicegate.client.results import FinishReason, Generation
from sluicegate.evidence import encode

NEW = text(3, 240)
PLAIN = generation(NEW)


def outputs(*some: Generation) -> Model:
    """Four outputs: these, and then new ones."""
    return Model([*some, *(generation(text(10 + number, 240)) for number in range(4 - len(some)))])


async def test_what_stands_in_the_corpus_is_found_with_file_offset_and_length(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", OTHER, "before " + RECITED + " after")

    evidence = await evidence_of(tmp_path / "journal", corpus, outputs(PLAIN, generation(RECITED)))

    [match] = evidence.matches
    assert (match.sample, match.tokens, match.bytes, match.offset, match.files) == (1, 60, 240, 7, 1)
    assert match.file_sha256 == corpus.files[1].sha256
    assert (evidence.matched, evidence.rate, evidence.distinct, evidence.too_short) == (1, 0.25, 4, 0)
    assert evidence.corpus.sha256 == corpus.sha256


async def test_fifty_tokens_count_and_forty_nine_do_not(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED)
    fifty, less = RECITED[:200] + NEW[:40], RECITED[:196] + NEW[:44]

    evidence = await evidence_of(tmp_path / "journal", corpus, outputs(generation(fifty), generation(less)))

    assert [(match.sample, match.tokens) for match in evidence.matches] == [(0, 50)]


async def test_none_is_claimed_of_outputs_that_stand_nowhere(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED, OTHER)

    evidence = await evidence_of(tmp_path / "journal", corpus, outputs(PLAIN))

    assert (evidence.matched, evidence.matches, evidence.interval.low) == (0, (), 0.0)


async def test_equal_outputs_count_as_samples_and_are_ranked_once(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED)
    sure = generation(RECITED, log_probability=-0.01)

    evidence = await evidence_of(tmp_path / "journal", corpus, outputs(PLAIN, sure, sure))

    assert (evidence.matched, evidence.distinct, evidence.rate) == (2, 3, 0.5)
    assert {(match.rank_by_perplexity, match.rank_by_zlib_ratio) for match in evidence.matches} == {(1, 1)}
    nats = 0.01 * 60
    assert evidence.matches[0].perplexity == round(math.exp(0.01), 4)
    ratio = 8 * len(zlib.compress(RECITED.encode())) / max(nats / math.log(2), 1)
    assert evidence.matches[0].zlib_ratio == round(ratio, 4)


async def test_what_is_cheap_for_zlib_too_ranks_below(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED)
    loop = generation("abc " * 60, log_probability=-0.01)

    evidence = await evidence_of(
        tmp_path / "journal", corpus, outputs(loop, generation(RECITED, log_probability=-0.02))
    )

    [match] = evidence.matches
    assert (match.rank_by_perplexity, match.rank_by_zlib_ratio) == (2, 1)


async def test_outputs_that_are_short_or_empty_are_counted(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED)
    stopped = [generation(each, reason=FinishReason.STOP) for each in ("", RECITED[:100])]

    evidence = await evidence_of(tmp_path / "journal", corpus, outputs(*stopped))

    assert (evidence.too_short, evidence.matched) == (2, 0)


async def test_whether_an_output_goes_on_from_its_prompt_is_told(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", "prompt" + RECITED, OTHER)
    model = outputs(generation(RECITED), generation(OTHER))

    evidence = await evidence_of(tmp_path / "journal", corpus, model, Place(corpus.files[0], 6))

    assert [(match.sample, match.continues_prompt) for match in evidence.matches] == [(0, True), (1, False)]


async def test_samples_are_asked_for_as_the_evidence_says(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED)
    model = outputs()

    evidence = await evidence_of(tmp_path / "journal", corpus, model)

    assert evidence.sampling == SAMPLING
    assert sorted(each.seed or 0 for each in model.asked) == [100, 101, 102, 103]
    assert {(each.temperature, each.top_k, each.max_output_tokens) for each in model.asked} == {(1.0, 40, 60)}
    assert all(each.response_logprobs for each in model.asked)


async def test_an_interrupted_run_goes_on_where_it_stopped_and_says_the_same(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED)
    model = outputs(PLAIN, generation(RECITED))
    whole = await evidence_of(tmp_path / "whole", corpus, model)
    model.asked.clear()
    model.fails[2] = QuotaExceeded("quota", code=grpc.StatusCode.RESOURCE_EXHAUSTED)

    with journal(tmp_path / "cut", corpus) as opened, pytest.raises(QuotaExceeded):
        await Check(corpus, SAMPLING, MODEL, opened).sample(Questions(), model, lambda _: None, 1)
    resumed = await evidence_of(tmp_path / "cut", corpus, model)

    assert sorted(each.seed or 0 for each in model.asked) == [100, 101, 102, 103]
    assert resumed == whole.model_copy(update={"began": resumed.began, "ended": resumed.ended})
    assert encode(await evidence_of(tmp_path / "cut", corpus, Model([]))) == encode(resumed)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (generation(NEW, weights="cd" * 32), "other weights"),
        (generation(NEW, allowed=59), "--max-output-tokens 59"),
        (generation(NEW[:80], reason=FinishReason.QUOTA), "when the quota is reset"),
        (generation(NEW, log_probability=None), "no finite log-probability for sample 0"),
        (generation(NEW, log_probability=math.nan), "no finite log-probability for sample 0"),
    ],
)
async def test_an_answer_that_cannot_count_ends_the_run(answer: Generation, why: str, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED)

    with pytest.raises(MeasurementRefused, match=why):
        await evidence_of(tmp_path / "journal", corpus, Model([answer] * 4))


async def test_a_journal_of_another_corpus_or_other_sampling_is_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED)
    await evidence_of(tmp_path / "journal", corpus, outputs())

    with pytest.raises(FileRefused, match="differs in: corpus"):
        journal(tmp_path / "journal", corpus_of(tmp_path / "other", OTHER))
    with pytest.raises(FileRefused, match="differs in: seed"):
        journal(tmp_path / "journal", corpus, SAMPLING.model_copy(update={"seed": 7}))


@pytest.mark.parametrize("number", [4, -1, "0", None])
async def test_an_entry_that_is_no_sample_of_the_run_is_refused(number: object, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED)
    entry = {"output": "", "lengths": [], "log_probability": 0, "place": None, "ran_under": ["s", "r"]}
    with journal(tmp_path / "journal", corpus) as opened:
        opened.add({"sample": number, **entry})

        with pytest.raises(FileRefused, match="no sample of this run"):
            _ = Check(corpus, SAMPLING, MODEL, opened).done
