"""What the one writer of a log leaves on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_logs import (
    IDENTITY,
    KEY,
    OTHER_KEY,
    PUBLIC_KEY,
    FakeClock,
    calls,
    closing,
    entries,
    files,
    kinds,
    opening,
    records,
    verify,
    write_log,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from sluicegate.server.audit import AuditLogInUse, Head
from sluicegate.server.audit.chain import CHECKPOINT_ENTRIES
from sluicegate.server.audit.entries import Checkpoint, Entry, Header, Interrupted, Link, Rotation, WithdrawalsInForce
from sluicegate.server.audit.journal import open_journal


def test_a_new_log_begins_with_a_header_and_a_signature(tmp_path: Path) -> None:
    write_log(tmp_path / "log")

    header, checkpoint, _ = entries(tmp_path / "log")
    assert isinstance(header, Header)
    assert (header.deployment, header.replica, header.public_key) == ("example", "replica-1", PUBLIC_KEY)
    assert (header.file, header.previous, header.open_calls, header.torn) == (1, None, {}, ())
    assert isinstance(checkpoint, Checkpoint)


def test_logs_have_ids_of_their_own(tmp_path: Path) -> None:
    assert write_log(tmp_path / "a").log != write_log(tmp_path / "b").log


def test_a_file_has_a_name_by_time_and_number_and_is_for_its_owner(tmp_path: Path) -> None:
    write_log(tmp_path / "log")

    [path] = files(tmp_path / "log")
    assert path.name == "audit-20260120T070000Z-000001.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_restart_goes_on_with_the_chain_in_a_new_file(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    first = write_log(directory, calls(2))

    second = write_log(directory, calls(2, "later"), clock=FakeClock(FakeClock().unix + 60))

    header = next(record for record in records(directory) if record.number == first.entry + 1).entry
    assert isinstance(header, Header)
    assert header.previous == Link(file=1, entry=first.entry, hash=first.hash)
    assert second.log == first.log
    assert kinds(directory, anchors=[first, second]) == []


def test_the_withdrawals_in_force_are_known_in_every_file_and_at_the_next_start(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    first, second = (WithdrawalsInForce(store="a" * 32, change=each, mark=f"w-{each}") for each in (1, 2))

    write_log(directory, [first, second, *calls(40)], file_bytes=8000)

    headers = [entry for entry in entries(directory) if isinstance(entry, Header)]
    assert [each.withdrawals for each in headers] == [UNSET] + [second] * (len(files(directory)) - 1)
    assert len(headers) > 2
    assert verify(directory).reports[0].withdrawals == second
    with open_journal(directory, IDENTITY, KEY) as journal:
        assert journal.withdrawals == second


def test_a_full_file_is_closed_and_the_next_begun(tmp_path: Path) -> None:
    directory = tmp_path / "log"

    write_log(directory, calls(40), file_bytes=8000)

    paths = files(directory)
    assert len(paths) > 2
    assert all(path.stat().st_size < 12_000 for path in paths)
    rotations = [entry for entry in entries(directory) if isinstance(entry, Rotation)]
    assert [each.next_file for each in rotations] == list(range(2, len(paths) + 1))
    assert kinds(directory) == []


def test_a_call_may_span_files(tmp_path: Path) -> None:
    directory = tmp_path / "log"

    write_log(directory, [opening("long"), *calls(40), closing("long")], file_bytes=8000)

    headers = [entry for entry in entries(directory) if isinstance(entry, Header)]
    assert all(header.open_calls["long"] == 64 for header in headers[1:])
    assert kinds(directory) == []


def test_calls_that_were_open_are_interrupted_at_the_next_start(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    write_log(directory, [opening("open"), opening("closed"), closing("closed"), opening("denied", decision="denied")])

    write_log(directory)

    assert [entry.call for entry in entries(directory) if isinstance(entry, Interrupted)] == ["open"]
    report = verify(directory).reports[0]
    assert (report.problems, report.open_calls) == ([], 0)


def test_no_more_than_a_thousand_entries_stand_unsigned(tmp_path: Path) -> None:
    directory = tmp_path / "log"

    with open_journal(directory, IDENTITY, KEY, clock=FakeClock().clock) as journal:
        journal.commit(calls(CHECKPOINT_ENTRIES))

    stretch, longest = 0, 0
    for entry in entries(directory):
        stretch = 0 if isinstance(entry, Checkpoint) else stretch + 1
        longest = max(longest, stretch)
    assert longest == CHECKPOINT_ENTRIES
    assert kinds(directory) == []


def test_entries_left_unsigned_by_a_crash_are_counted_on(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    with open_journal(directory, IDENTITY, KEY, clock=FakeClock().clock) as journal:
        journal.commit(calls(100))

    write_log(directory)

    [_, header] = [entry for entry in entries(directory) if isinstance(entry, Header)]
    assert header.unsigned == 200


def test_a_clock_that_steps_back_a_little_stands_still(tmp_path: Path) -> None:
    directory, clock = tmp_path / "log", FakeClock()
    with open_journal(directory, IDENTITY, KEY, clock=clock.clock) as journal:
        clock.unix -= 0.9
        journal.commit(calls(1))

    assert len({record.at for record in records(directory)}) == 1
    assert kinds(directory) == []


def test_a_clock_that_was_set_back_is_written_down_and_found(tmp_path: Path) -> None:
    directory, clock = tmp_path / "log", FakeClock()
    with open_journal(directory, IDENTITY, KEY, clock=clock.clock) as journal:
        clock.unix -= 3600
        journal.commit(calls(1))

    assert records(directory)[-1].at == "2026-01-20T06:00:00.000Z"
    assert kinds(directory) == ["clock_went_back"]


def test_two_writers_never_have_one_log(tmp_path: Path) -> None:
    directory = tmp_path / "log"

    with (
        open_journal(directory, IDENTITY, KEY),
        pytest.raises(AuditLogInUse),
        open_journal(directory, IDENTITY, OTHER_KEY),
    ):
        pass

    assert len(files(directory)) == 1


ENTRIES = st.lists(
    st.tuples(st.sampled_from(["open", "deny", "close"]), st.integers(0, 5)).map(
        lambda pair: (pair[0], f"call-{pair[1]}")
    ),
    max_size=40,
)


def plausible(wanted: list[tuple[str, str]]) -> list[Entry]:
    """What of it a server could write: each call is opened once, and closed once after that."""
    states: dict[str, str] = {}
    written: list[Entry] = []
    for what, call in wanted:
        if what == "deny":
            written.append(opening(f"denied-{len(written)}", decision="denied", code="PERMISSION_DENIED"))
        elif what == "open" and call not in states:
            written.append(opening(call))
            states[call] = "open"
        elif what == "close" and states.get(call) == "open":
            written.append(closing(call))
            states[call] = "closed"
    return written


@settings(max_examples=30, deadline=None)
@given(wanted=ENTRIES, restarts=st.lists(st.integers(0, 40), max_size=3), file_bytes=st.integers(1000, 20_000))
def test_whatever_a_server_writes_verifies(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[tuple[str, str]], restarts: list[int], file_bytes: int
) -> None:
    directory = tmp_path_factory.mktemp("written") / "log"
    clock = FakeClock()
    rest = plausible(wanted)
    heads: list[Head] = []

    for at in [*sorted(restarts), len(rest)]:
        # What was open at a restart is interrupted then, so a closing would be one too many.
        part = [entry for entry in rest[:at] if getattr(entry, "emitted_tokens", None) is None or not heads]
        rest = rest[at:]
        heads.append(write_log(directory, part, clock=clock, file_bytes=file_bytes))

    assert kinds(directory, anchors=heads) == []
    assert [record.number for record in records(directory)] == list(range(heads[-1].entry + 1))
