from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import evidence_files as made
import pytest

from sluicegate.evidence import (
    BiasEvidence,
    EvidenceDirectory,
    EvidenceError,
    EvidenceSet,
    MemorisationEvidence,
    WatermarkEvidence,
    digest,
    encode,
    parse_any,
    read_directory,
)
from sluicegate.evidence import collection as module
from sluicegate.evidence.form import Evidence


def test_a_directory_gives_evidence_of_every_kind_by_what_it_is_about_the_newest_first(tmp_path: Path) -> None:
    earlier = made.ENDED - timedelta(days=9)
    made.write(tmp_path, "a.json", made.bias("demo-m"))
    made.write(tmp_path, "b.json", made.bias("demo-m", ended=earlier))
    made.write(tmp_path, "c.json", made.bias("demo-m", weights="9" * 64))
    made.write(tmp_path, "d.json", made.bias("demo-l"))
    made.write(tmp_path, "e.json", made.memorisation("demo-m"))
    made.write(tmp_path, "f.json", made.finding("demo-m"))
    (tmp_path / "notes.txt").write_text("no evidence")

    found = read_directory(tmp_path)

    assert [each.file for each in found.of(BiasEvidence, "demo-m", made.WEIGHTS)] == ["a.json", "b.json"]
    assert [each.file for each in found.of(MemorisationEvidence, "demo-m", made.WEIGHTS)] == ["e.json"]
    assert not found.of(WatermarkEvidence, "demo-m", made.WEIGHTS)
    assert len(found.files) == 6
    assert not found.unusable


def test_the_latest_are_one_of_each_topic_and_of_the_same_weights(tmp_path: Path) -> None:
    later = made.ENDED + timedelta(days=9)
    made.write(tmp_path, "a.json", made.bias("demo-m", suite="winobias"))
    made.write(tmp_path, "b.json", made.bias("demo-m", suite="winobias", ended=later))
    made.write(tmp_path, "c.json", made.bias("demo-m", suite="occupations"))
    made.write(tmp_path, "d.json", made.bias("demo-m", suite="winogender", weights="9" * 64))
    made.write(tmp_path, "e.json", made.watermark("demo-m", tokens=100))
    made.write(tmp_path, "f.json", made.watermark("demo-m", tokens=200, ended=later))
    made.write(tmp_path, "g.json", made.memorisation("demo-m"))
    made.write(tmp_path, "h.json", made.memorisation("demo-m", ended=later))

    found = read_directory(tmp_path)

    assert [each.file for each in found.latest(BiasEvidence, "demo-m", made.WEIGHTS)] == ["c.json", "b.json"]
    assert [each.file for each in found.latest(WatermarkEvidence, "demo-m", made.WEIGHTS)] == ["f.json"]
    assert [each.file for each in found.latest(MemorisationEvidence, "demo-m", made.WEIGHTS)] == ["h.json"]


def test_memorisation_is_about_a_corpus_and_where_prompts_come_from() -> None:
    free = made.memorisation("demo-m")
    prompted = free.model_copy(
        update={"sampling": free.sampling.model_copy(update={"prompts": "corpus", "prompt_tokens": 50})}
    )
    elsewhere = free.model_copy(update={"corpus": free.corpus.model_copy(update={"sha256": "0" * 64})})

    assert len({module.topic(each) for each in (free, prompted, elsewhere)}) == 3


def test_findings_are_each_a_topic_of_their_own() -> None:
    assert module.topic(made.finding("demo-m")) == (made.FINDING_ID,)


def test_the_digest_is_that_of_the_file_and_narrows_the_set(tmp_path: Path) -> None:
    path = made.write(tmp_path, "a.json", made.bias("demo-m"))
    made.write(tmp_path, "b.json", made.bias("demo-l"))
    found = read_directory(tmp_path)

    assert [each.file for each in found.among([digest(path.read_bytes()), "0" * 64]).files] == ["a.json"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "has a `schema` that is none of"),
        (b'{"schema":["x"]}', "has a `schema` that is none of"),
        (b'{"schema":"sluicegate/evidence/bias/v2"}', "has a `schema` that is none of"),
        (b'{"schema":"sluicegate/evidence/bias/v1"}', "is not BiasEvidence"),
        (encode(made.bias("demo-m")) + b"\n", "is not canonical JSON"),
    ],
)
def test_a_file_that_is_no_evidence_is_named_with_what_is_wrong_and_hides_no_other(
    raw: bytes, text: str, tmp_path: Path
) -> None:
    made.write(tmp_path, "good.json", made.bias("demo-m"))
    (tmp_path / "bad.json").write_bytes(raw)
    found = read_directory(tmp_path)

    assert [each.file for each in found.files] == ["good.json"]
    assert text in found.unusable["bad.json"]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "directory.json").mkdir()
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")

    assert read_directory(tmp_path).unusable == {
        "directory.json": "is no regular file",
        "gone.json": "cannot be read: No such file or directory",
        "pipe.json": "is no regular file",
    }


def test_a_directory_that_is_not_there_is_empty_and_one_that_cannot_be_read_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert read_directory(tmp_path / "none") == EvidenceSet()
    with pytest.raises(EvidenceError, match="cannot be read"):
        read_directory(tmp_path / "file")


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    for number in range(module.MAX_FILES + 1):
        (tmp_path / f"{number}.json").touch()

    with pytest.raises(EvidenceError, match="more than 256 files"):
        read_directory(tmp_path)


def test_only_what_changed_is_parsed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []

    def counting(raw: bytes) -> Evidence:
        parsed.append(digest(raw))
        return parse_any(raw)

    monkeypatch.setattr(module, "parse_any", counting)
    made.write(tmp_path, "a.json", made.bias("demo-m"))
    made.write(tmp_path, "b.json", made.bias("demo-l"))
    directory = EvidenceDirectory(tmp_path)
    before = directory.read()

    assert directory.read() == before
    assert len(parsed) == 2
    made.write(tmp_path, "b.json", made.bias("demo-l", stereotype=60))
    (tmp_path / "a.json").rename(tmp_path / "c.json")
    after = directory.read()
    assert after != before
    assert {each.file for each in after.files} == {"b.json", "c.json"}
    assert len(parsed) == 4
