"""Policy files on the disk: whole or not at all, and never over somebody else's work."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sluicegate.auth.errors import EditingError
from sluicegate.auth.replacing import create_file, replace_file

BEFORE, AFTER = b"id: a\n", b"id: b\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy" / "a.yaml"
    path.parent.mkdir()
    path.write_bytes(BEFORE)
    return path


def refusal(change: Callable[[], None]) -> str:
    with pytest.raises(EditingError) as caught:
        change()
    return str(caught.value)


def only_files(directory: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in directory.iterdir()}


def test_a_file_is_replaced_and_keeps_its_mode(path: Path) -> None:
    path.chmod(0o640)
    inode = path.stat().st_ino

    replace_file(path, BEFORE, AFTER)

    assert only_files(path.parent) == {"a.yaml": AFTER}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_ino != inode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_of_somebody_else_stays_theirs(path: Path) -> None:
    os.chown(path, 1234, 5678)

    replace_file(path, BEFORE, AFTER)

    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)


@pytest.mark.parametrize("now", [b"id: c\n", b"id: a\n# more\n", b"id: a", b""])
def test_what_was_changed_meanwhile_is_not_replaced(path: Path, now: bytes) -> None:
    path.write_bytes(now)

    text = refusal(lambda: replace_file(path, BEFORE, AFTER))

    assert text == f"{path}: was changed by somebody else meanwhile; look at it and try again"
    assert only_files(path.parent) == {"a.yaml": now}


def test_a_symbolic_link_is_not_replaced(path: Path) -> None:
    link = path.with_name("link.yaml")
    link.symlink_to(path)

    assert "is a symbolic link" in refusal(lambda: replace_file(link, BEFORE, AFTER))

    assert link.is_symlink()
    assert path.read_bytes() == BEFORE


def test_a_pipe_is_not_waited_for(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)

    assert refusal(lambda: replace_file(path, BEFORE, AFTER)) == f"{path}: is no regular file"


def test_a_file_that_was_deleted_does_not_come_back(path: Path) -> None:
    path.unlink()

    assert refusal(lambda: replace_file(path, BEFORE, AFTER)) == f"{path}: No such file or directory"

    assert only_files(path.parent) == {}


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_an_interrupt_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", interrupt)
    else:
        monkeypatch.setattr(Path, "replace", interrupt)

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, BEFORE, AFTER)

    assert only_files(path.parent) == {"a.yaml": BEFORE}


def test_a_full_disk_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    assert refusal(lambda: replace_file(path, BEFORE, AFTER)) == f"{path}: No space left on device"

    assert only_files(path.parent) == {"a.yaml": BEFORE}


def test_a_new_file_has_the_mode_of_the_one_beside_it(path: Path) -> None:
    path.chmod(0o604)

    create_file(path.with_name("b.yaml"), AFTER, like=path)

    assert only_files(path.parent) == {"a.yaml": BEFORE, "b.yaml": AFTER}
    assert stat.S_IMODE(path.with_name("b.yaml").stat().st_mode) == 0o604


@pytest.mark.parametrize("taken", ["a.yaml", "dangling.yaml"])
def test_a_new_file_is_never_written_over_what_is_there(path: Path, taken: str) -> None:
    dangling = path.with_name("dangling.yaml")
    dangling.symlink_to("nowhere")
    place = path.with_name(taken)

    assert refusal(lambda: create_file(place, AFTER, like=path)) == f"{place}: File exists"

    assert path.read_bytes() == BEFORE
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.yaml", "dangling.yaml"]
    assert not dangling.exists()


def test_a_directory_that_cannot_be_written_is_told_of(path: Path) -> None:
    gone = path.parent / "gone" / "c.yaml"

    assert refusal(lambda: create_file(gone, AFTER, like=path)) == f"{gone}: No such file or directory"
