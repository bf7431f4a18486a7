"""What a server finds of its log when it starts: where the chain stands, and what a crash left behind.

A crash can take the end of what was being written and nothing else, so nothing else is repaired: any other flaw raises
AuditLogDamaged. What is cut off is kept beside the log and named in the next header. All of it can be interrupted
by another crash and done again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sluicegate.server.audit.chain import Head, Position
from sluicegate.server.audit.entries import (
    Closing,
    Decision,
    Entry,
    Header,
    Interrupted,
    Link,
    Opening,
    TornPiece,
    WithdrawalsInForce,
)
from sluicegate.server.audit.errors import AuditLogDamaged
from sluicegate.server.audit.files import TORN_SUFFIX, LogFileName, list_files, sync_directory, torn_pieces
from sluicegate.server.audit.form import NO_HASH, Record, parse_line
from sluicegate.server.audit.reading import HALF_WRITTEN, Line, read_lines

MAX_TORN_BYTES = 16 << 20
"""More than one write holds: a crash takes less."""
_VERIFY = (
    "run `sluicegate audit verify`; keep a log that was changed, and start a new one with another `audit.directory`"
    " and another `audit.replica`"
)


@dataclass(slots=True)
class LogEnd:
    """The end of a log. All empty: there is none yet."""

    log: str | None = None
    file: int = 0
    position: Position = field(default_factory=Position)
    open_calls: dict[str, int] = field(default_factory=dict)
    """Calls that have an Opening and no end, with their reserved tokens."""
    withdrawals: WithdrawalsInForce | None = None
    """In force at the end; None where no entry says."""
    torn: tuple[TornPiece, ...] = ()
    """What is kept beside the log and not named in it yet."""

    @property
    def link(self) -> Link | None:
        """To the last entry, for the header of the next file."""
        if self.log is None:
            return None
        return Link(file=self.file, entry=self.position.next - 1, hash=self.position.hash.hex())

    def follow(self, entry: Entry) -> None:
        """Keep the books of what is open and in force over one entry."""
        match entry:
            case Opening(decision=Decision.ALLOWED):
                self.open_calls[entry.call] = entry.reserved_tokens
            case Closing() | Interrupted():
                self.open_calls.pop(entry.call, None)
            case WithdrawalsInForce():
                self.withdrawals = entry
            case _:
                pass


def recover(
    directory: Path,
    anchored: Head | None = None,
    others: Sequence[Head] = (),
    *,
    must_be_anchored: bool = False,
) -> LogEnd:
    """Read the end of the log, and set half-written pieces aside. The directory must be locked.

    `anchored` is a head that the log is known to have had, `others` are of any logs;
    `must_be_anchored`: a log that none of them is of is not gone on with. Raises OSError, and
    AuditLogDamaged for a flaw that no crash explains, such as a log without that head.
    """
    files = list_files(directory)
    if len({file.number for file in files}) != len(files):
        raise AuditLogDamaged(f"{directory}: two files have the same number; {_VERIFY}")
    end, named = LogEnd(), frozenset[str]()
    while files and end.log is None:
        header = _header(directory / files[-1].name)
        if header is None:
            _set_aside(directory / files.pop().name, 0)
        else:
            end = _read_end(directory, files[-1], header)
            named = frozenset(piece.file for piece in header.torn)
    pieces = [each for each in torn_pieces(directory) if each.number >= end.file and each.name not in named]
    end.torn = tuple(_described(directory / piece.name) for piece in pieces)
    if end.log is not None and must_be_anchored and end.log not in {head.log for head in (anchored, *others) if head}:
        raise AuditLogDamaged(
            f"{directory}: the state store knows nothing of this log. Is it the right one? If it has lost what it "
            "knew, withdrawals are forgotten too: make them again, and start with `--new-state` once"
        )
    if anchored is not None:
        _require(directory, files, end, anchored)
    for head in others:
        if head.log == end.log:
            _require(directory, files, end, head)
    return end


def _header(path: Path) -> Header | None:
    """The header of a file; None if the crash came before it was whole."""
    line = next(read_lines(path), None)
    if line is None or _is_torn(line):
        return None
    header = _record(path, line).entry
    if not isinstance(header, Header):
        raise AuditLogDamaged(f"{path}: does not begin with a header; {_VERIFY}")
    return header


def _read_end(directory: Path, file: LogFileName, header: Header) -> LogEnd:
    path = directory / file.name
    link = header.previous
    position = Position(
        next=0 if link is None else link.entry + 1,
        hash=NO_HASH if link is None else bytes.fromhex(link.hash),
        unsigned=header.unsigned,
    )
    end = LogEnd(header.log, header.file, position, dict(header.open_calls), header.withdrawals or None)
    for line in read_lines(path):
        if _is_torn(line):
            _set_aside(path, line.start)
            break
        record = _record(path, line)
        if record.number != end.position.next or not record.follows(end.position.hash):
            raise AuditLogDamaged(f"{path}:{line.number}: does not follow from the line before; {_VERIFY}")
        end.position = end.position.after(record)
        end.follow(record.entry)
    return end


def _record(path: Path, line: Line) -> Record:
    try:
        if line.problem is not None:
            raise ValueError(line.problem)
        return parse_line(line.data)
    except ValueError as error:
        raise AuditLogDamaged(f"{path}:{line.number}: {error}; {_VERIFY}") from None


def _is_torn(line: Line) -> bool:
    """Whether a crash can have left this line: without its end, or zeros where the disk was not written yet."""
    return line.problem == HALF_WRITTEN or b"\0" in line.data


def _set_aside(path: Path, start: int) -> None:
    """Move what stands in a file from `start` on into a file beside it."""
    octets = path.stat().st_size - start
    if octets > MAX_TORN_BYTES:
        raise AuditLogDamaged(f"{path}: {octets} octets at its end are no entries; {_VERIFY}")
    names = (path.with_name(f"{path.name}{TORN_SUFFIX}{number or ''}") for number in count())
    aside = next(name for name in names if not name.exists())
    if start == 0:
        path.rename(aside)
        sync_directory(path.parent)
        return
    with path.open("rb+") as source:
        source.seek(start)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        sync_directory(path.parent)
        source.truncate(start)
        os.fsync(source.fileno())


def _described(path: Path) -> TornPiece:
    data = path.read_bytes()
    return TornPiece(file=path.name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _require(directory: Path, files: list[LogFileName], end: LogEnd, anchored: Head) -> None:
    if end.log != anchored.log or end.position.next <= anchored.entry:
        raise AuditLogDamaged(f"{directory}: the log was shortened or replaced: it lacks {anchored}; {_VERIFY}")
    for file in reversed(files):
        path = directory / file.name
        header = _header(path)
        if header is not None and (header.previous is None or header.previous.entry < anchored.entry):
            records = (_record(path, line) for line in read_lines(path))
            if any(each.number == anchored.entry and each.hash.hex() == anchored.hash for each in records):
                return
            break
    raise AuditLogDamaged(f"{directory}: entry {anchored.entry} is not the one that was anchored; {_VERIFY}")
