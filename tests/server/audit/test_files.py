"""Directory, lock and files of a log."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sluicegate.server.audit.errors import AuditLogInUse, AuditSetupError
from sluicegate.server.audit.files import LogFile, create_file, file_name, list_files, locked, torn_pieces


@pytest.fixture
def failing_sync(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the next fdatasync fail, as a disk that loses what it was given."""

    def arm() -> None:
        def fail(descriptor: int) -> None:
            monkeypatch.undo()
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fdatasync", fail)

    return arm


def test_a_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    with locked(tmp_path / "log"):
        assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_can_look_into_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir(mode=0o755)

    with pytest.raises(AuditSetupError, match="chmod 700"), locked(directory):
        pass


def test_a_directory_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditSetupError, match="No such file"), locked(tmp_path / "absent" / "log"):
        pass


def test_a_second_writer_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    directory = tmp_path / "log"

    with locked(directory), pytest.raises(AuditLogInUse), locked(directory):
        pass

    with locked(directory):
        pass


def test_a_lock_that_is_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir(mode=0o700)
    (directory / "lock").symlink_to(tmp_path / "victim")

    with pytest.raises(AuditSetupError), locked(directory):
        pass

    assert not (tmp_path / "victim").exists()


def test_files_sort_by_number_whatever_the_clock_said(tmp_path: Path) -> None:
    names = [file_name(2, 0.0), file_name(10, 5.0), file_name(1, 9.0)]
    for name in (*names, "audit-notes.txt", f"{names[0]}.torn", f"{names[0]}.torn1"):
        (tmp_path / name).touch()

    assert [file.number for file in list_files(tmp_path)] == [1, 2, 10]
    assert [piece.name for piece in torn_pieces(tmp_path)] == [f"{names[0]}.torn", f"{names[0]}.torn1"]


def test_a_file_is_for_its_owner_and_never_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "file"

    create_file(path, b"first\n").close()

    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"first\n", 0o600)
    with pytest.raises(FileExistsError):
        create_file(path, b"second\n")
    assert path.read_bytes() == b"first\n"


def test_what_could_not_be_synced_is_taken_back(tmp_path: Path, failing_sync: Callable[[], None]) -> None:
    file = create_file(tmp_path / "file", b"first\n")
    failing_sync()

    with pytest.raises(OSError, match="Input/output"):
        file.append(b"lost\n")
    after_failure = (tmp_path / "file").read_bytes()
    file.append(b"second\n")
    file.close()

    assert after_failure == b"first\n"
    assert (tmp_path / "file").read_bytes() == b"first\nsecond\n"


def test_what_could_not_even_be_taken_back_is_before_the_next_write(
    tmp_path: Path, failing_sync: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    file = create_file(tmp_path / "file", b"first\n")
    monkeypatch.setattr(os, "ftruncate", fail)
    failing = os.ftruncate
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: failing(descriptor, 0))

    with pytest.raises(OSError, match="Input/output"):
        file.append(b"lost\n")
    with pytest.raises(OSError, match="Input/output"):
        file.append(b"not tried\n")
    monkeypatch.undo()
    file.append(b"second\n")
    file.close()

    assert (tmp_path / "file").read_bytes() == b"first\nsecond\n"


def test_a_file_that_could_not_be_begun_is_not_left_behind(tmp_path: Path, failing_sync: Callable[[], None]) -> None:
    failing_sync()

    with pytest.raises(OSError, match="Input/output"):
        create_file(tmp_path / "file", b"first\n")

    assert not (tmp_path / "file").exists()


def test_a_disk_that_takes_little_at_a_time_gets_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:3]))

    file = LogFile(tmp_path / "file")
    file.append(b"twelve bytes")
    file.close()

    assert (tmp_path / "file").read_bytes() == b"twelve bytes"
    assert file.size == 12
