"""What a start makes of a log that a crash, or somebody else, left behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from audit_logs import IDENTITY, KEY, FakeClock, calls, closing, entries, files, kinds, opening, records, write_log

from sluicegate.server.audit import AuditLogDamaged, Head
from sluicegate.server.audit.entries import Closing, Header, Interrupted, Opening
from sluicegate.server.audit.files import torn_pieces
from sluicegate.server.audit.journal import open_journal


def last_write(directory: Path) -> tuple[bytes, bytes]:
    """The only file of a log before and after one more write, of two entries."""
    with open_journal(directory, IDENTITY, KEY, clock=FakeClock().clock) as journal:
        journal.commit([opening("before")])
        [path] = files(directory)
        before = path.read_bytes()
        journal.commit([closing("before"), opening("a", client=None, subject=None, jti_hash=None)])
        return before, path.read_bytes()


def test_a_crash_at_any_octet_of_the_last_write_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    before, after = last_write(tmp_path / "whole")
    name = files(tmp_path / "whole")[0].name

    for end in range(len(before), len(after) + 1):
        directory = tmp_path / str(end)
        directory.mkdir(mode=0o700)
        (directory / name).write_bytes(after[:end])
        whole_lines = after[:end].count(b"\n")

        with open_journal(directory, IDENTITY, KEY, clock=FakeClock().clock):
            pass

        assert kinds(directory) == []
        assert (
            b"".join(record.line() for record in records(directory)[:whole_lines])
            == after[: after.rfind(b"\n", 0, end) + 1]
        )
        openings = {entry.call for entry in entries(directory) if isinstance(entry, Opening)}
        ended = {entry.call for entry in entries(directory) if isinstance(entry, Closing | Interrupted)}
        assert "before" in openings
        assert ended == openings


def test_a_crash_at_any_octet_of_the_first_write_of_a_file_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    write_log(tmp_path / "whole", [opening("open")])
    write_log(tmp_path / "whole")
    first, second = files(tmp_path / "whole")
    header_end = second.read_bytes().index(b"\n") + 1

    for end in (0, 1, header_end - 1, header_end, header_end + 1, second.stat().st_size - 1):
        directory = tmp_path / str(end)
        directory.mkdir(mode=0o700)
        (directory / first.name).write_bytes(first.read_bytes())
        (directory / second.name).write_bytes(second.read_bytes()[:end])

        write_log(directory, calls(1))

        assert kinds(directory) == []
        assert [entry.call for entry in entries(directory) if isinstance(entry, Interrupted)] == ["open"]


def test_a_crash_in_the_very_first_write_leaves_a_log_that_can_begin(tmp_path: Path) -> None:
    write_log(tmp_path / "whole")
    [path] = files(tmp_path / "whole")
    directory = tmp_path / "log"
    directory.mkdir(mode=0o700)
    (directory / path.name).write_bytes(path.read_bytes()[:100])

    write_log(directory)

    [header] = [entry for entry in entries(directory) if isinstance(entry, Header)]
    assert (header.file, header.previous, [piece.bytes for piece in header.torn]) == (1, None, [100])
    assert kinds(directory) == []


def test_what_was_cut_off_is_kept_and_named_in_the_log_once(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    write_log(directory, calls(1))
    [path] = files(directory)
    with path.open("ab") as file:
        file.write(b'{"entry":{"half')

    write_log(directory)
    write_log(directory)

    [piece] = torn_pieces(directory)
    assert (directory / piece.name).read_bytes() == b'{"entry":{"half'
    assert (directory / piece.name).stat().st_mode & 0o777 == 0o600
    named = [piece for entry in entries(directory) if isinstance(entry, Header) for piece in entry.torn]
    assert [(each.file, each.bytes) for each in named] == [(piece.name, 15)]
    assert named[0].sha256 == hashlib.sha256(b'{"entry":{"half').hexdigest()


def test_a_crash_during_recovery_loses_no_piece(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    write_log(directory, calls(1))
    [path] = files(directory)
    # The piece was copied and cut off, and then the header of the next file was not finished.
    (directory / f"{path.name}.torn").write_bytes(b"piece")
    (directory / "audit-20260120T080000Z-000002.jsonl").write_bytes(b'{"entry":{"at"')

    write_log(directory)
    write_log(directory)

    headers = [entry for entry in entries(directory) if isinstance(entry, Header)]
    assert [[piece.bytes for piece in header.torn] for header in headers] == [[], [5, 14], []]
    assert kinds(directory) == []


def test_zeros_that_a_power_cut_left_are_set_aside(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    write_log(directory, calls(1))
    [path] = files(directory)
    with path.open("ab") as file:
        file.write(bytes(5000) + b"}\n")

    write_log(directory)

    assert kinds(directory) == []
    assert torn_pieces(directory) != []


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"emitted_tokens":12', b'"emitted_tokens":11'), (b'"n":3', b'"n":4'), (b'{"entry"', b'{"Entry"')],
)
def test_a_log_that_was_changed_is_not_gone_on_with(tmp_path: Path, old: bytes, new: bytes) -> None:
    directory = tmp_path / "log"
    write_log(directory, calls(2))
    [path] = files(directory)
    path.write_bytes(path.read_bytes().replace(old, new, 1))

    with pytest.raises(AuditLogDamaged, match="audit verify"):
        write_log(directory)

    assert len(files(directory)) == 1


def test_an_end_of_more_than_one_write_is_not_taken_for_a_crash(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    write_log(directory)
    [path] = files(directory)
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + (17 << 20))

    with pytest.raises(AuditLogDamaged, match="no entries"):
        write_log(directory)


def test_two_files_of_one_number_are_not_gone_on_with(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    write_log(directory)
    [path] = files(directory)
    (directory / "audit-20260120T080000Z-000001.jsonl").write_bytes(path.read_bytes())

    with pytest.raises(AuditLogDamaged, match="same number"):
        write_log(directory)


def test_a_file_without_a_header_is_not_gone_on_with(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    write_log(directory)
    [path] = files(directory)
    path.write_bytes(path.read_bytes().partition(b"\n")[2])

    with pytest.raises(AuditLogDamaged, match="header"):
        write_log(directory)


# --- against the head that was anchored


def test_a_log_with_its_anchored_head_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    early = write_log(directory, calls(20), file_bytes=3000)
    late = write_log(directory, calls(20, "later"), file_bytes=3000, anchored=early)

    write_log(directory, anchored=late)
    write_log(directory, anchored=early)

    assert kinds(directory, anchors=[early, late]) == []


def test_a_log_that_was_shortened_is_not_gone_on_with(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    head = write_log(directory, calls(2))
    [path] = files(directory)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))

    with pytest.raises(AuditLogDamaged, match="shortened"):
        write_log(directory, anchored=head)


def test_a_log_that_was_deleted_is_not_begun_anew(tmp_path: Path) -> None:
    head = write_log(tmp_path / "old")

    with pytest.raises(AuditLogDamaged, match="shortened or replaced"):
        write_log(tmp_path / "new", anchored=head)


def test_a_log_with_another_entry_of_the_anchored_number_is_not_gone_on_with(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    head = write_log(directory, calls(2))

    with pytest.raises(AuditLogDamaged, match="anchored"):
        write_log(directory, anchored=Head(head.log, head.entry - 1, head.hash))
