from __future__ import annotations

import os
from pathlib import Path

import pytest

from sluicegate.client.errors import FileRefused
from sluicegate.client.evaluation.journal import Journal

RUN = {"model": "m", "suite": ("a", "b")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


def entries(path: Path) -> list[dict[str, object]]:
    with Journal(path, RUN) as journal:
        return journal.entries


def written(path: Path, *values: int) -> bytes:
    with Journal(path, RUN) as journal:
        for value in values:
            journal.add({"value": value})
    return path.read_bytes()


def test_a_second_run_finds_what_the_first_has_measured(path: Path) -> None:
    written(path, 1)
    written(path, 2)

    assert entries(path) == [{"value": 1}, {"value": 2}]


def test_begin_and_end_are_those_of_the_first_time(path: Path) -> None:
    with Journal(path, RUN) as journal:
        began = journal.began
        assert journal.ended is None
        journal.end()
        ended = journal.ended
    first = path.read_bytes()

    with Journal(path, RUN) as journal:
        journal.end()
        found = journal.began, journal.ended, journal.entries

    assert (found, path.read_bytes()) == ((began, ended, []), first)


def test_a_line_that_was_cut_off_is_taken_away_and_the_run_goes_on(path: Path) -> None:
    whole = written(path, 1, 2)
    for cut in range(len(written(path, 3)) - len(whole) - 1):
        path.write_bytes(whole + path.read_bytes()[len(whole) :][:cut])

        assert entries(path) == [{"value": 1}, {"value": 2}]
        assert path.read_bytes() == whole
        written(path, 3)


def test_a_line_that_was_changed_taken_out_or_moved_is_refused_and_left(path: Path) -> None:
    lines = written(path, 1, 2, 3).splitlines(keepends=True)
    bad = [
        [lines[0], lines[1].replace(b'"value":1', b'"value":9'), *lines[2:]],
        [lines[0], *lines[2:]],
        [lines[0], lines[2], lines[1], lines[3]],
        [*lines[:3], b"[]\n"],
        [*lines[:3], b"\xff\n"],
        [*lines[:3], b'{"entry":{},"sha256":"","more":1}\n'],
        [*lines[:3], b"[" * 100_000 + b"\n"],
        [b"not ours"],
        lines[1:],
    ]

    for content in bad:
        path.write_bytes(b"".join(content))
        with pytest.raises(FileRefused, match="move it away to begin anew"):
            entries(path)
        assert path.read_bytes() == b"".join(content)


def test_a_journal_of_another_run_is_refused_with_what_differs(path: Path) -> None:
    written(path, 1)

    with pytest.raises(FileRefused, match="differs in: model, seed;"):
        Journal(path, {"model": "other", "suite": ["a", "b"], "seed": 1})


def test_two_runs_cannot_write_one_journal(path: Path) -> None:
    with Journal(path, RUN), pytest.raises(FileRefused, match="being written by another run"):
        Journal(path, RUN)


def test_the_journal_is_the_owner_s_alone(path: Path) -> None:
    written(path)

    assert path.stat().st_mode & 0o777 == 0o600


def test_links_pipes_and_directories_are_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")

    for name in ("link", "pipe", "."):
        with pytest.raises(FileRefused):
            Journal(tmp_path / name, RUN)
    assert not path.exists()
