"""Every edit of one octet, every deletion, swap and fork of a log of a thousand entries is found."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from audit_logs import calls, files, kinds, write_log

from sluicegate.server.audit import Head
from sluicegate.server.audit.form import NO_HASH, Record, parse_line

Show = Callable[[str], None]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3_600)]

CALLS, WHOLE_CHECKS, FORKS = 500, 300, 50
SEED = 20_260_204


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, Head]:
    """A log of one file, and its anchored head."""
    return tmp_path / "log", write_log(tmp_path / "log", calls(CALLS))


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_every_edit_of_one_octet_is_found(log: tuple[Path, Head], show: Show) -> None:
    """At its line or the next, by what the verification of a line looks at; and some by verifying the whole."""
    draws = random.Random(SEED)
    [path] = files(log[0])
    lines, records = lines_of(path), [parse_line(line[:-1]) for line in lines_of(path)]
    edits = 0
    for index, line in enumerate(lines):
        for at in range(len(line) - 1):
            edited = bytearray(line[:-1])
            edited[at] ^= draws.randint(1, 255)
            assert is_found_here(bytes(edited), index, records), (index, at)
            edits += 1
    for _ in range(WHOLE_CHECKS):
        whole = bytearray(b"".join(lines))
        whole[draws.randrange(len(whole))] ^= draws.randint(1, 255)
        path.write_bytes(whole)
        assert kinds(log[0], anchors=[log[1]]) != []
    show(f"{len(records)} entries: {edits:,} edits found at their place, {WHOLE_CHECKS} of them by verifying the whole")


def is_found_here(line: bytes, index: int, records: Sequence[Record]) -> bool:
    """Whether the line is none, or does not fit between its neighbours. The last line has the anchor behind it."""
    try:
        record = parse_line(line)
    except ValueError:
        return True
    fits_before = record.follows(records[index - 1].hash if index else NO_HASH)
    fits_after = records[index + 1].follows(record.hash) if index + 1 < len(records) else record == records[index]
    return not (fits_before and fits_after)


def test_every_deletion_and_every_swap_of_neighbours_is_found(log: tuple[Path, Head], show: Show) -> None:
    [path] = files(log[0])
    lines = lines_of(path)
    for index in range(len(lines)):
        path.write_bytes(b"".join(lines[:index] + lines[index + 1 :]))
        assert kinds(log[0], anchors=[log[1]]) != [], index
    for index in range(len(lines) - 1):
        path.write_bytes(b"".join([*lines[:index], lines[index + 1], lines[index], *lines[index + 2 :]]))
        assert kinds(log[0], anchors=[log[1]]) != [], index
    show(f"{len(lines)} deletions and {len(lines) - 1} swaps found")


def test_every_fork_is_found(log: tuple[Path, Head], tmp_path: Path, show: Show) -> None:
    """The log is cut, and its own server goes on with it: only the head that was kept elsewhere can tell."""
    draws = random.Random(SEED)
    [path] = files(log[0])
    lines = lines_of(path)
    for number in range(FORKS):
        forked = tmp_path / f"fork-{number}"
        forked.mkdir(mode=0o700)
        (forked / path.name).write_bytes(b"".join(lines[: draws.randrange(2, len(lines))]))
        write_log(forked, calls(CALLS + 10, "other"))
        assert kinds(forked, anchors=[log[1]]) != [], number
    show(f"{FORKS} forks found")
