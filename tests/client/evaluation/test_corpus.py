from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sluicegate.client.errors import FileRefused
from sluicegate.client.evaluation.corpus import open_corpus, pieces, read_at


def write(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_files_are_all_below_the_directory_but_hidden_and_empty_ones(tmp_path: Path) -> None:
    write(tmp_path, b=b"two", a__c=b"three", empty=b"")
    write(tmp_path / ".git", config=b"x")
    write(tmp_path, **{".hidden": b"x"})

    corpus = open_corpus(tmp_path)

    assert [(file.path.name, file.bytes, file.sha256) for file in corpus.files] == [
        ("b", 3, hashlib.sha256(b"two").hexdigest()),
        ("c", 5, hashlib.sha256(b"three").hexdigest()),
    ]
    assert corpus.bytes == 8


def test_its_digest_names_the_content_and_not_the_places(tmp_path: Path) -> None:
    first = open_corpus(write(tmp_path / "1", a=b"one", b=b"two"))

    assert open_corpus(write(tmp_path / "2", z=b"one", y__x=b"two")).sha256 == first.sha256
    assert open_corpus(write(tmp_path / "3", a=b"one", b=b"twO")).sha256 != first.sha256


@pytest.mark.parametrize(("margin", "size"), [(0, 3), (2, 3), (5, 3), (100, 3), (1, 100), (7, 1)])
def test_pieces_are_the_whole_file_with_margins(margin: int, size: int, tmp_path: Path) -> None:
    content = bytes(range(65, 65 + 26))
    [file] = open_corpus(write(tmp_path, a=content)).files

    found = list(pieces(file, margin, size))

    assert b"".join(each.content[each.before : each.before + each.size] for each in found) == content
    for each in found:
        low, high = max(0, each.start - margin), each.start + each.size + margin
        # The stretch has its size, so that a last one that is short has less after it.
        assert each.content == content[low : min(high, len(content))]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    [file] = open_corpus(write(tmp_path, a=b"one")).files

    for content in (b"two", b"one more", b"on"):
        file.path.write_bytes(content)
        with pytest.raises(FileRefused, match="has changed"):
            list(pieces(file, 2))


def test_bytes_can_be_had_from_any_place(tmp_path: Path) -> None:
    [file] = open_corpus(write(tmp_path, a=b"0123456789")).files

    assert (read_at(file, 4, 3), read_at(file, 8, 9)) == (b"456", b"89")


def test_what_is_no_text_is_refused_and_named(tmp_path: Path) -> None:
    write(tmp_path / "latin1", caf=b"caf\xe9")
    write(tmp_path / "cut", caf=b"caf\xc3")
    write(tmp_path / "utf16", text="text".encode("utf-16"))
    write(tmp_path / "empty", nothing=b"")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe/fifo")
    (tmp_path / "link").mkdir()
    (tmp_path / "link/to").symlink_to(tmp_path / "latin1/caf")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/to").symlink_to(tmp_path / "utf16")

    for name, why in (
        ("latin1", "caf is not UTF-8"),
        ("cut", "caf is not UTF-8"),
        ("utf16", "text is not UTF-8"),
        ("empty", "has no text in it"),
        ("pipe", "fifo is no regular file"),
        ("link", "to cannot be read"),
        ("folder", "to is a link"),
        ("none", "is no directory"),
        ("latin1/caf", "is no directory"),
    ):
        with pytest.raises(FileRefused, match=why):
            open_corpus(tmp_path / name)
