from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from bias_runs import evidence_of

from sluicegate.evidence import BiasEvidence, EvidenceError, encode, parse

Document = dict[str, Any]


def prettier(document: Document) -> None:
    document["figures"].update(prefer_stereotype=0, prefer_other=2)


def nearer(document: Document) -> None:
    document["figures"]["share"] = 0.4


def smaller(document: Document) -> None:
    document["categories"][0]["figures"]["mean_absolute_delta"] = 0.1


def one_less(document: Document) -> None:
    del document["pairs"][1]


def other_pair(document: Document) -> None:
    document["pairs"][0]["stereotype"] = -9.0


def no_category(document: Document) -> None:
    del document["categories"][0]


def no_interval(document: Document) -> None:
    document["figures"]["interval"] = None


def surer(document: Document) -> None:
    document["figures"]["interval"]["low"] = document["figures"]["share"]


@pytest.mark.parametrize("change", [prettier, nearer, smaller, one_less, other_pair, no_category, no_interval, surer])
async def test_figures_that_are_not_those_of_the_pairs_are_refused(
    change: Callable[[Document], None], tmp_path: Path
) -> None:
    document = json.loads(encode(await evidence_of(tmp_path / "journal")))
    changed = copy.deepcopy(document)
    change(changed)

    with pytest.raises(EvidenceError):
        parse(rfc8785.dumps(changed), BiasEvidence)
    assert parse(rfc8785.dumps(document), BiasEvidence)
