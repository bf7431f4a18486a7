"""A finding's canonical form, its digest, and the times in ids."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from state_findings_suite import START_MS, finding

from sluicegate.server.caller import uuid7
from sluicegate.server.state import FindingKind, StoreUnsuitable
from sluicegate.server.state.findings import decode_finding, decode_review, first_id, time_of

FILED = replace(finding(), id="019c1a52-5a80-7abc-8def-0123456789ab")
CANONICAL = (
    '{"agreement":"agr-1","created_ms":1770000000000,"domain":"sluicegate/finding/v1",'
    '"id":"019c1a52-5a80-7abc-8def-0123456789ab","partner":"example-lab","report":{"attachments":'
    '[{"media_type":"text/csv","name":"pairs “1”.csv","sha256":"' + "0f" * 32 + '","size_bytes":9007199254740991}],'
    '"details":"Of 60 pairs 41.\\n\\tSee the file.","kind":"bias","model":"gpt2-124m","severity":"high",'
    '"summary":"Prefers “he” for surgeons"},"reporter":"' + "c0" * 16 + '","stage":"s2",'
    '"weights_sha256":"' + "ab" * 32 + '"}'
)


def test_canonical_form_is_the_one_that_the_docs_define() -> None:
    assert FILED.canonical.decode() == CANONICAL
    assert FILED.digest == hashlib.sha256(CANONICAL.encode()).hexdigest()


def test_every_member_counts_for_the_digest() -> None:
    changes = {"id": uuid7(1), "created_ms": 1, "weights_sha256": None, "stage": "s3", "partner": "public"}
    changes |= {"agreement": None, "reporter": "d0" * 16, "report": replace(FILED.report, kind=FindingKind.OTHER)}
    others = [replace(FILED, **{name: value}) for name, value in changes.items()]  # type: ignore[arg-type]

    assert len({FILED.digest, *(each.digest for each in others)}) == len(changes) + 1


def test_finding_is_read_as_it_was_written() -> None:
    assert decode_finding(CANONICAL) == FILED


@pytest.mark.parametrize(
    "change",
    [
        {"domain": "sluicegate/finding/v2"},
        {"more": 1},
        {"report": {**json.loads(CANONICAL)["report"], "kind": "praise"}},
        {"report": None},
    ],
)
def test_finding_of_another_release_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(StoreUnsuitable, match="another release"):
        decode_finding(json.dumps({**json.loads(CANONICAL), **change}))


def test_review_of_another_release_is_refused() -> None:
    with pytest.raises(StoreUnsuitable, match="another release"):
        decode_review('{"status": "praised", "reviewed_at": 1, "justification": "x"}')


@pytest.mark.parametrize("milliseconds", [0, 1, 0xFFFF, 0x10000, START_MS, 2**48 - 1])
def test_ids_tell_their_time_and_sort_by_it(milliseconds: int) -> None:
    id_ = uuid7(milliseconds)

    assert time_of(id_) == milliseconds
    assert first_id(milliseconds) < id_
    assert milliseconds == 0 or uuid7(milliseconds - 1) < first_id(milliseconds)
