"""Evidence of a watermark's power: rates that are not those of the counts are no evidence."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785

from sluicegate.evidence import EvidenceError, WatermarkEvidence, encode, parse

Document = dict[str, Any]

GOOD: Document = {
    "schema": "sluicegate/evidence/watermark/v1",
    "tool": "bench",
    "began": "2026-01-20T00:00:00Z",
    "ended": "2026-01-20T01:00:00Z",
    "subject": {"model": "demo-l", "weights_sha256": "a" * 64, "dtype": "float32", "served_under": []},
    "watermark_id": "wm-0fd704e860a8807f",
    "false_positive_rate": 0.001,
    "power": [
        {"temperature": 1, "tokens": 50, "entropy": 4, "texts": 3, "found": 2, "rate": 0.666667},
        {"temperature": 1, "tokens": 100, "entropy": 4, "texts": 3, "found": 3, "rate": 1},
    ],
    "robustness": [{"change": "tokens shuffled", "temperature": 1, "tokens": 100, "texts": 3, "found": 0, "rate": 0}],
    "prose": {"sha256": "b" * 64, "texts": 10_000, "found": 9, "rate": 0.0009},
    "perplexity_plain": 60.5,
    "perplexity_marked": 61,
}


def stronger(document: Document) -> None:
    document["power"][0]["rate"] = 0.9


def more_than_all(document: Document) -> None:
    document["power"][1].update(found=4, rate=1.333333)


def no_text(document: Document) -> None:
    document["prose"].update(texts=0, found=0, rate=0)


def fewer_errors(document: Document) -> None:
    document["prose"]["found"] = 0


def unknown_member(document: Document) -> None:
    document["robustness"][0]["note"] = "paraphrased"


def another_version(document: Document) -> None:
    document["schema"] = "sluicegate/evidence/watermark/v2"


def test_a_measurement_is_read_as_it_was_written() -> None:
    evidence = parse(rfc8785.dumps(GOOD), WatermarkEvidence)

    assert encode(evidence) == rfc8785.dumps(GOOD)
    assert json.loads(encode(evidence)) == GOOD
    assert (evidence.rate(1, 50), evidence.rate(1, 100)) == (0.666667, 1)
    assert evidence.rate(0.7, 100) is None


@pytest.mark.parametrize("change", [stronger, more_than_all, no_text, fewer_errors, unknown_member, another_version])
def test_what_does_not_follow_from_its_counts_is_refused(change: Callable[[Document], None]) -> None:
    document = copy.deepcopy(GOOD)
    change(document)

    with pytest.raises(EvidenceError):
        parse(rfc8785.dumps(document), WatermarkEvidence)
