from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from bias_runs import evidence_of

from sluicegate.evidence import BiasEvidence, EvidenceError, digest, encode, parse, read


@pytest.fixture
async def evidence(tmp_path: Path) -> BiasEvidence:
    return await evidence_of(tmp_path / "journal")


def changed(evidence: BiasEvidence, **members: Any) -> bytes:
    return rfc8785.dumps({**json.loads(encode(evidence)), **members})


def test_a_file_says_the_same_when_it_is_read_again(evidence: BiasEvidence, tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    file.write_bytes(encode(evidence))

    found, named = read(file, BiasEvidence)

    assert found == evidence
    assert named == digest(encode(evidence)) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert json.loads(file.read_bytes())["schema"] == "sluicegate/evidence/bias/v1"


def test_every_other_spelling_of_the_same_is_refused(evidence: BiasEvidence) -> None:
    raw = encode(evidence)
    members = json.loads(raw)
    spellings = [
        raw + b"\n",
        json.dumps(members, sort_keys=True).encode(),
        raw.replace(b'"tool":', b'"tool":"x","tool":', 1),
        b"\xef\xbb\xbf" + raw,
    ]

    for spelling in spellings:
        with pytest.raises(EvidenceError):
            parse(spelling, BiasEvidence)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"schema": "sluicegate/evidence/bias/v2"}, "schema"),
        ({"more": 1}, "more"),
        ({"tool": ""}, "tool"),
        ({"tool": "two\nlines"}, "tool"),
        ({"began": "2026-13-20T00:00:00Z"}, "began"),
        ({"began": 1}, "began"),
        ({"subject": {}}, "subject"),
        ({"pairs": []}, ""),
    ],
)
def test_what_is_not_of_the_form_is_refused_with_its_field(
    evidence: BiasEvidence, members: dict[str, Any], named: str
) -> None:
    with pytest.raises(EvidenceError, match=f"is not BiasEvidence: .*{named}"):
        parse(changed(evidence, **members), BiasEvidence)


def test_a_refusal_quotes_nothing_of_the_file(evidence: BiasEvidence) -> None:
    with pytest.raises(EvidenceError) as refused:
        parse(changed(evidence, tool="secret\nsecret"), BiasEvidence)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("raw", [b"", b"null", b"\xff", b"[" * 100_000, b"NaN"])
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse(raw, BiasEvidence)


def test_a_file_that_is_not_there_and_one_that_is_too_long_are_refused(tmp_path: Path) -> None:
    long = tmp_path / "long.json"
    with long.open("wb") as file:
        file.truncate((32 << 20) + 1)

    with pytest.raises(EvidenceError, match="cannot be read"):
        read(tmp_path / "none.json", BiasEvidence)
    with pytest.raises(EvidenceError, match=r"long\.json is longer than"):
        read(long, BiasEvidence)
