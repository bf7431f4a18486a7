from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sluicegate.client.errors import FileRefused
from sluicegate.client.evaluation.data_files import MAX_BYTES, read_data_file


def test_a_file_has_its_text_and_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n"x, y",z\r\n\r\n')

    file = read_data_file(path)

    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.first_line == "a,b"
    assert list(file.table(",", ("b", "a"), is_quoted=True)) == [(2, ("z", "x, y"))]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", ":1: needs the columns a, b; a is not there once"),
        ("a,c\n", ":1: needs the columns a, b; b is not there once"),
        ("a,b,a\n", ":1: needs the columns a, b; a is not there once"),
        ("a,b\n1\n", ":2: has 1 columns and not 2"),
        ("a,b\n1,2,3\n", ":2: has 3 columns and not 2"),
        ('a,b\n1,"2\n', ":2: is no row of a table"),
        ("a,b\n" + "x" * 200_000 + ",1\n", ":2: is no row of a table"),
    ],
)
def test_what_is_no_such_table_is_refused_with_its_line(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text)

    with pytest.raises(FileRefused, match=why):
        list(read_data_file(path).table(",", ("a", "b"), is_quoted=True))


def test_files_that_are_none_not_utf8_or_too_long_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin1").write_bytes(b"caf\xe9")
    with (tmp_path / "long").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    os.mkfifo(tmp_path / "pipe")

    for name, why in (
        ("none", "cannot be read: No such file"),
        (".", "no regular file|cannot be read"),
        ("pipe", "no regular file"),
        ("latin1", "is not UTF-8"),
        ("long", "longer than"),
    ):
        with pytest.raises(FileRefused, match=why):
            read_data_file(tmp_path / name)


@pytest.mark.parametrize("text", ["", "x" * 4_001, "bell\x07", "two\nlines", "\x9b31m"])
def test_what_cannot_be_scored_as_a_sentence_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("x")

    with pytest.raises(FileRefused, match=f"{path}:7: a sentence has"):
        read_data_file(path).sentence(7, text)
