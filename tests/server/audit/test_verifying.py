"""Whatever is done to a log is found, and named with its place."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_logs import (
    IDENTITY,
    KEY,
    OTHER_KEY,
    OTHER_PUBLIC_KEY,
    PUBLIC_KEY,
    FakeClock,
    calls,
    closing,
    files,
    forged,
    kinds,
    opening,
    records,
    rewritten,
    verify,
    write_log,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.server.audit import Head, Verification
from sluicegate.server.audit.entries import Checkpoint, Entry, Header
from sluicegate.server.audit.form import MAX_LINE_BYTES, NO_HASH, Record, chained
from sluicegate.server.audit.journal import open_journal
from sluicegate.server.audit.problems import MAX_PROBLEMS

Lines = list[bytes]


def lines_of(path: Path) -> Lines:
    return path.read_bytes().splitlines(keepends=True)


def write_records(path: Path, chain: list[Record]) -> None:
    path.write_bytes(b"".join(record.line() for record in chain))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Head]:
    """A log of one file: header, checkpoint, four calls, an open one, a checkpoint."""
    directory = tmp_path_factory.mktemp("pristine") / "log"
    head = write_log(directory, [*calls(4), opening("open")])
    return directory, head


@pytest.fixture
def log(pristine: tuple[Path, Head], tmp_path: Path) -> Path:
    return shutil.copytree(pristine[0], tmp_path / "log")


@pytest.fixture
def only_file(log: Path) -> Path:
    [path] = files(log)
    return path


def test_a_log_as_it_was_written_is_good(pristine: tuple[Path, Head]) -> None:
    directory, head = pristine

    report = verify(directory, anchors=[head]).reports[0]

    assert report.problems == []
    assert (report.entries, report.last_entry, report.signed_to, report.open_calls) == (12, 11, 10, 1)
    assert (report.is_key_given, report.is_anchored) == (True, True)
    assert (report.log, report.deployment, report.replica) == (head.log, "example", "replica-1")


# --- one operation on the lines of the file, and what is found: the kind, the line, the entry


def edit(lines: Lines) -> Lines:
    return [line.replace(b'"emitted_tokens":12', b'"emitted_tokens":13') for line in lines[:4]] + lines[4:]


def edit_and_hash_anew(lines: Lines) -> Lines:
    """Entry 3 says something else, and has the hash for it."""
    changed = chained(3, "2026-01-20T07:00:02.000Z", closing("call-0", emitted_tokens=1), hash_of(lines[2]))
    return [*lines[:3], changed.line(), *lines[4:]]


def hash_of(line: bytes) -> bytes:
    return bytes.fromhex(line[-67:-3].decode())


def delete(lines: Lines) -> Lines:
    return lines[:5] + lines[6:]


def swap(lines: Lines) -> Lines:
    return [*lines[:5], lines[6], lines[5], *lines[7:]]


def repeat(lines: Lines) -> Lines:
    return lines[:6] + lines[5:]


def insert(lines: Lines) -> Lines:
    return [*lines[:6], chained(6, "2026-01-20T07:00:04.000Z", opening("x"), hash_of(lines[5])).line(), *lines[6:]]


def half(lines: Lines) -> Lines:
    return [*lines[:-1], lines[-1][:50]]


def no_newline(lines: Lines) -> Lines:
    return [*lines[:-1], lines[-1][:-1]]


def garbage(lines: Lines) -> Lines:
    return [*lines[:5], b"\xff\xfe\n", *lines[5:]]


def huge(lines: Lines) -> Lines:
    return [*lines[:5], b"x" * (3 * MAX_LINE_BYTES) + b"\n", *lines[5:]]


def deep(lines: Lines) -> Lines:
    return [*lines[:5], b'{"entry":' + b"[" * 500_000 + b',"hash":"' + b"0" * 64 + b'"}\n', *lines[5:]]


def blank(lines: Lines) -> Lines:
    return [*lines[:5], b"\n", *lines[5:]]


def carriage_return(lines: Lines) -> Lines:
    return [*lines[:5], lines[5][:-1] + b"\r\n", *lines[6:]]


def second_header(lines: Lines) -> Lines:
    return [*lines[:5], lines[0], *lines[5:]]


def no_header(lines: Lines) -> Lines:
    return lines[1:]


def empty(lines: Lines) -> Lines:
    return []


def signature_of_another(lines: Lines) -> Lines:
    """The last checkpoint's signature is that of the first."""
    signature = b'"signature":"'
    first, last = lines[1].partition(signature)[2][:86], lines[-1].partition(signature)[2][:86]
    return [*lines[:-1], lines[-1].replace(last, first)]


OPERATIONS: list[tuple[Callable[[Lines], Lines], str, int | None, int | None]] = [
    (edit, "changed", 4, 3),
    (edit_and_hash_anew, "changed", 5, 4),
    (delete, "entries_missing", 6, 6),
    (swap, "entries_missing", 6, 6),
    (repeat, "out_of_order", 7, 5),
    (insert, "out_of_order", 8, 6),
    (half, "half_written", 12, None),
    (no_newline, "half_written", 12, None),
    (garbage, "malformed", 6, None),
    (huge, "malformed", 6, None),
    (deep, "malformed", 6, None),
    (blank, "malformed", 6, None),
    (carriage_return, "malformed", 6, None),
    (second_header, "header_misplaced", 6, 0),
    (no_header, "header_missing", 1, 1),
    (empty, "header_missing", None, None),
    (signature_of_another, "changed", 12, 11),
]


@pytest.mark.parametrize(
    ("operation", "kind", "line", "entry"), OPERATIONS, ids=[operation.__name__ for operation, *_ in OPERATIONS]
)
def test_what_is_done_to_a_file_is_found_at_its_place(
    only_file: Path, operation: Callable[[Lines], Lines], kind: str, line: int | None, entry: int | None
) -> None:
    only_file.write_bytes(b"".join(operation(lines_of(only_file))))

    problems = verify(only_file.parent).problems()

    first = problems[0]
    assert (first.kind, first.file, first.line, first.entry) == (kind, str(only_file), line, entry)


# --- by somebody who knows how hashes are made, and has not the key


@pytest.fixture
def long_log(tmp_path: Path) -> Path:
    """Checkpoints at entries 1, 1002 and 1004."""
    directory = tmp_path / "log"
    with open_journal(directory, IDENTITY, KEY, clock=FakeClock().clock) as journal:
        journal.commit(calls(501))
        journal.commit([], sign=True)
    return directory


def test_a_chain_made_anew_from_a_changed_entry_on_fails_at_the_next_checkpoint(long_log: Path) -> None:
    [path] = files(long_log)
    chain = records(long_log)
    chain[501] = chained(501, chain[501].at, closing("call-249", emitted_tokens=0), NO_HASH)
    write_records(path, rewritten(chain[:501], chain[501:]))

    report = verify(long_log).reports[0]

    assert (report.problems[0].kind, report.problems[0].line) == ("signature_invalid", 1003)
    assert report.signed_to == 0


def test_a_call_taken_out_of_a_chain_made_anew_fails_at_the_next_checkpoint(long_log: Path) -> None:
    [path] = files(long_log)
    chain = records(long_log)
    write_records(path, rewritten(chain[:2], chain[4:]))

    assert kinds(long_log)[0] == "signature_invalid"


def test_a_chain_made_anew_without_checkpoints_is_found(long_log: Path) -> None:
    [path] = files(long_log)
    chain = [record for record in records(long_log) if not isinstance(record.entry, Checkpoint)]
    write_records(path, rewritten([], chain))

    problems = verify(long_log).problems()

    assert [(each.kind, each.line, each.entry) for each in problems] == [("unsigned", 1001, 1000)]


def test_a_log_made_anew_with_another_key_is_found_by_the_known_key(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    write_log(directory, calls(2), key=OTHER_KEY)

    assert kinds(directory, keys=[PUBLIC_KEY]) == ["key_unknown"]
    assert kinds(directory, keys=[]) == []
    assert kinds(directory, keys=[OTHER_PUBLIC_KEY, PUBLIC_KEY]) == []


def test_a_log_that_goes_on_with_another_key_needs_both_keys_named(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    write_log(directory)
    write_log(directory, key=OTHER_KEY)

    assert kinds(directory, keys=[]) == ["key_changed"]
    assert kinds(directory, keys=[PUBLIC_KEY]) == ["key_unknown"]
    assert kinds(directory, keys=[PUBLIC_KEY, OTHER_PUBLIC_KEY]) == []


def test_checkpoints_by_another_key_than_the_headers_are_found(pristine: tuple[Path, Head], only_file: Path) -> None:
    write_records(only_file, forged(records(pristine[0]), OTHER_KEY))

    assert kinds(only_file.parent) == ["signature_invalid", "signature_invalid"]


def test_a_checkpoint_that_names_another_head_than_it_signs_is_found(tmp_path: Path) -> None:
    write_log(tmp_path / "log")
    [path] = files(tmp_path / "log")
    header, checkpoint, _ = records(tmp_path / "log")
    assert isinstance(checkpoint.entry, Checkpoint)
    lying = dataclasses.replace(checkpoint.entry, head="0" * 64)
    write_records(path, [header, chained(1, checkpoint.at, lying, header.hash)])

    assert kinds(tmp_path / "log") == ["signature_invalid"]


@pytest.mark.parametrize("lie", [{"entry": 3}, {"hash": "0" * 64}])
def test_a_header_that_links_elsewhere_is_found_though_it_is_signed(tmp_path: Path, lie: dict[str, object]) -> None:
    directory = tmp_path / "log"
    write_log(directory, calls(2))
    write_log(directory)
    first, second = files(directory)
    chain = records(directory)
    at = len(lines_of(first))
    header = chain[at].entry
    assert isinstance(header, Header)
    assert header.previous is not None
    previous = dataclasses.replace(header.previous, **lie)  # type: ignore[arg-type]
    chain[at] = dataclasses.replace(chain[at], entry=dataclasses.replace(header, previous=previous))
    write_records(second, forged(chain, KEY)[at:])

    assert kinds(directory) == ["header_misplaced"]


# --- the end of the log, and what was anchored


@pytest.mark.parametrize("kept", range(2, 12))
def test_an_end_that_was_cut_off_is_found_by_the_anchor_alone(
    pristine: tuple[Path, Head], only_file: Path, kept: int
) -> None:
    only_file.write_bytes(b"".join(lines_of(only_file)[:kept]))

    with_anchor, without = verify(only_file.parent, anchors=[pristine[1]]), verify(only_file.parent)

    assert [each.kind for each in with_anchor.problems()] == ["truncated"]
    assert without.problems() == []
    assert without.reports[0].last_entry == kept - 1


def test_another_continuation_than_the_anchored_one_is_found(pristine: tuple[Path, Head], only_file: Path) -> None:
    directory, head = only_file.parent, pristine[1]
    only_file.write_bytes(b"".join(lines_of(only_file)[:8]))
    write_log(directory, calls(10, "later"))

    assert kinds(directory) == []
    assert kinds(directory, anchors=[head]) == ["anchor_differs"]


def test_a_log_that_is_gone_is_found_by_its_anchor(pristine: tuple[Path, Head], tmp_path: Path) -> None:
    write_log(tmp_path / "other")

    assert kinds(tmp_path / "other", anchors=[pristine[1]]) == ["no_log"]


def test_all_anchors_of_a_log_are_checked(pristine: tuple[Path, Head]) -> None:
    directory, head = pristine
    wrong = Head(head.log, 3, "0" * 64)

    assert kinds(directory, anchors=[wrong, head]) == ["anchor_differs"]


def test_an_anchored_entry_that_was_taken_out_is_found(pristine: tuple[Path, Head], only_file: Path) -> None:
    anchor = Head(pristine[1].log, 5, records(only_file.parent)[5].hash.hex())
    only_file.write_bytes(b"".join(delete(lines_of(only_file))))

    assert (
        kinds(only_file.parent, anchors=[anchor])
        == ["entries_missing", "tokens_without_opening", "anchor_differs"][::2]
    )


# --- files


@pytest.fixture
def many_files(tmp_path: Path) -> list[Path]:
    """The files of a log that was turned over some times."""
    write_log(tmp_path / "log", calls(30), file_bytes=6000)
    paths = files(tmp_path / "log")
    assert len(paths) >= 4
    return paths


def test_a_file_in_the_middle_that_was_deleted_is_found(many_files: list[Path]) -> None:
    many_files[1].unlink()

    assert kinds(many_files[0].parent)[:2] == ["file_missing", "entries_missing"]


def test_the_last_file_that_was_deleted_is_found_without_an_anchor(many_files: list[Path]) -> None:
    many_files[-1].unlink()

    [problem] = verify(many_files[0].parent).problems()

    assert (problem.kind, problem.file) == ("file_missing", str(many_files[-2]))


def test_first_files_that_were_deleted_are_found_unless_a_part_is_asked_for(many_files: list[Path]) -> None:
    directory = many_files[0].parent
    head = Head(records(directory)[0].entry.log, 3, "0" * 64)  # type: ignore[union-attr]
    many_files[0].unlink()
    part = Verification([directory], public_keys=[PUBLIC_KEY], anchors=[head], is_part=True)
    part.read_all()

    assert kinds(directory) == ["beginning_missing"]
    assert part.problems() == []


def test_files_that_changed_places_are_found(many_files: list[Path]) -> None:
    first, second = many_files[1].read_bytes(), many_files[2].read_bytes()
    many_files[1].write_bytes(second)
    many_files[2].write_bytes(first)

    assert kinds(many_files[0].parent)[0] == "header_misplaced"


def test_a_second_file_of_one_number_is_a_fork(many_files: list[Path]) -> None:
    directory = many_files[0].parent
    (directory / "audit-20270101T000000Z-000002.jsonl").write_bytes(many_files[1].read_bytes())

    assert kinds(directory) == ["fork"]


def test_a_file_of_another_log_is_found(many_files: list[Path], tmp_path: Path) -> None:
    write_log(tmp_path / "other", calls(30), file_bytes=6000)
    many_files[1].write_bytes(files(tmp_path / "other")[1].read_bytes())

    assert kinds(many_files[0].parent)[0] == "mixed_logs"


def test_what_is_no_file_is_found_and_not_waited_for(many_files: list[Path]) -> None:
    many_files[1].unlink()
    os.mkfifo(many_files[1])

    assert kinds(many_files[0].parent)[0] == "unreadable"


def test_a_directory_without_a_log_is_found(tmp_path: Path) -> None:
    assert kinds(tmp_path) == ["no_log"]
    assert kinds(tmp_path / "absent") == ["unreadable"]


# --- what the entries say of calls


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ([opening("a"), closing("a"), closing("a")], ["call_closed_twice"]),
        ([closing("a")], ["tokens_without_opening"]),
        ([closing("a", emitted_tokens=0)], ["closed_without_opening"]),
        ([opening("a", decision="denied"), closing("a")], ["tokens_without_opening"]),
        ([opening("a"), opening("a")], ["call_opened_twice"]),
        ([opening("a"), closing("a"), opening("a")], ["call_opened_twice"]),
        ([opening("a"), closing("a", emitted_tokens=64)], []),
        ([opening("a"), closing("a", emitted_tokens=65)], ["tokens_over_reserved"]),
    ],
)
def test_a_server_that_kept_bad_books_is_found(tmp_path: Path, written: list[Entry], found: list[str]) -> None:
    write_log(tmp_path / "log", written)

    assert kinds(tmp_path / "log") == found


# --- several replicas


def test_logs_of_several_replicas_verify_together_and_read_by_time(tmp_path: Path) -> None:
    first = write_log(tmp_path / "1", calls(3), clock=FakeClock())
    second = write_log(tmp_path / "2", calls(3), clock=FakeClock(FakeClock().unix + 0.5))

    logs = Verification([tmp_path / "1", tmp_path / "2"], public_keys=[PUBLIC_KEY], anchors=[first, second])
    read = list(logs.records())

    assert logs.problems() == []
    assert [record.at for _, record in read] == sorted(record.at for _, record in read)
    assert {report.log for report, _ in read[4:8]} == {first.log, second.log}


def test_one_log_in_two_directories_is_a_fork(pristine: tuple[Path, Head], log: Path) -> None:
    assert kinds(pristine[0], log) == ["fork"]


def test_a_bad_log_among_good_ones_is_the_one_that_is_named(pristine: tuple[Path, Head], tmp_path: Path) -> None:
    write_log(tmp_path / "bad", [closing("a")])

    good, bad = verify(pristine[0], tmp_path / "bad").reports

    assert (good.is_good, bad.is_good) == (True, False)


# --- anything


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_single_change_goes_unseen(
    pristine: tuple[Path, Head], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = shutil.copytree(pristine[0], tmp_path_factory.mktemp("changed") / "log")
    [path] = files(directory)
    octets, lines = bytearray(path.read_bytes()), lines_of(path)
    match data.draw(st.sampled_from(["flip", "remove", "delete", "swap", "repeat"])):
        case "flip":
            octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
            path.write_bytes(octets)
        case "remove":
            del octets[data.draw(st.integers(0, len(octets) - 1))]
            path.write_bytes(octets)
        case "delete":
            del lines[data.draw(st.integers(0, len(lines) - 1))]
            path.write_bytes(b"".join(lines))
        case "swap":
            one, other = data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True))
            lines[one], lines[other] = lines[other], lines[one]
            path.write_bytes(b"".join(lines))
        case _:
            at = data.draw(st.integers(0, len(lines) - 1))
            path.write_bytes(b"".join([*lines[: at + 1], lines[at], *lines[at + 1 :]]))

    assert kinds(directory, anchors=[pristine[1]]) != []


def test_every_way_to_cut_one_octet_out_of_a_thousand_entries_is_found_within_a_line(long_log: Path) -> None:
    [path] = files(long_log)
    whole = path.read_bytes()
    chosen = random.Random(7)

    for _ in range(8):
        at = chosen.randrange(len(whole))
        path.write_bytes(whole[:at] + whole[at + 1 :])

        line = verify(long_log).problems()[0].line

        assert line == whole.count(b"\n", 0, at) + 1


@settings(max_examples=100, deadline=None)
@given(content=st.lists(st.binary(max_size=80) | st.integers(0, 11), max_size=12))
def test_a_hostile_file_ends_in_problems(
    pristine: tuple[Path, Head], tmp_path_factory: pytest.TempPathFactory, content: list[bytes | int]
) -> None:
    [good] = files(pristine[0])
    lines = lines_of(good)
    path = tmp_path_factory.mktemp("hostile") / good.name
    path.write_bytes(b"".join(part if isinstance(part, bytes) else lines[part] for part in content))

    problems = verify(path.parent, anchors=[pristine[1]]).problems()

    assert problems != []


def test_problems_are_counted_and_not_kept_without_end(only_file: Path) -> None:
    only_file.write_bytes(only_file.read_bytes() + b"x\n" * 1000)

    report = verify(only_file.parent).reports[0]

    assert (len(report.problems), report.more_problems) == (MAX_PROBLEMS, 1000 - MAX_PROBLEMS)
