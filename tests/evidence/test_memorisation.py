from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from memorisation_runs import RECITED, Model, corpus_of, evidence_of, generation, text

from sluicegate.evidence import BiasEvidence, EvidenceError, MemorisationEvidence, encode, parse

Document = dict[str, Any]


def one_more(document: Document) -> None:
    document["matched"] = 3


def lower(document: Document) -> None:
    document["rate"] = 0.1


def short(document: Document) -> None:
    document["matches"][0]["tokens"] = 49


def twice(document: Document) -> None:
    document["matches"][1]["sample"] = document["matches"][0]["sample"]


def beyond(document: Document) -> None:
    document["matches"][1]["sample"] = 4


def too_many(document: Document) -> None:
    document["too_short"] = 3


def no_samples(document: Document) -> None:
    document["sampling"]["samples"] = 0


def surer(document: Document) -> None:
    document["interval"]["high"] = document["rate"]


@pytest.mark.parametrize("change", [one_more, lower, short, twice, beyond, too_many, no_samples, surer])
async def test_figures_that_are_not_those_of_the_matches_are_refused(
    change: Callable[[Document], None], tmp_path: Path
) -> None:
    corpus = corpus_of(tmp_path / "corpus", RECITED)
    outputs = [generation(each) for each in (RECITED, RECITED, text(3, 240), text(4, 240))]
    raw = encode(await evidence_of(tmp_path / "journal", corpus, Model(outputs)))
    document = json.loads(raw)
    change(document)

    with pytest.raises(EvidenceError):
        parse(rfc8785.dumps(document), MemorisationEvidence)
    with pytest.raises(EvidenceError):
        parse(raw, BiasEvidence)
    assert parse(raw, MemorisationEvidence).matched == 2
