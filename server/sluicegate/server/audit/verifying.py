"""Verification of one log, entry by entry, in constant memory. It reads what anybody may have written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from sluicegate.server.audit.calls import CallBook
from sluicegate.server.audit.chain import CHECKPOINT_ENTRIES, Head, Position, checkpoint_payload, holds
from sluicegate.server.audit.entries import FORMAT, Checkpoint, Header, Rotation, WithdrawalsInForce
from sluicegate.server.audit.files import LogFileName, list_files
from sluicegate.server.audit.form import Record, parse_line
from sluicegate.server.audit.problems import Problem, ProblemKind, Report
from sluicegate.server.audit.reading import HALF_WRITTEN, Line, read_lines


class LogCheck:
    """Verifies the log in a directory while its records are read; `report` tells what was found.

    `public_keys`: base64url keys of checkpoints; empty takes the log's word for its key. `anchors`: heads kept
    elsewhere, of any logs; `replicas`: the same, each by the replica that wrote its log. `is_part`: earlier files may
    be missing.
    """

    def __init__(
        self,
        directory: Path,
        *,
        public_keys: Collection[str] = (),
        anchors: Sequence[Head] = (),
        replicas: Mapping[str, Head] = MappingProxyType({}),
        is_part: bool = False,
    ) -> None:
        self.report = Report(directory)
        self._keys = frozenset(public_keys)
        self._all_anchors = anchors
        self._replicas = replicas
        self._anchors: dict[int, list[str]] = {}
        self._is_part = is_part
        self._calls = CallBook()
        # Where the chain stands. After a flaw it is taken up again at the next entry, so that one flaw is one problem.
        self._position = Position()
        self._is_sure = True
        """The hash of the position is known: the line before could be read."""
        self._next_file = 1
        self._promised = False
        """The file before says that another follows."""
        self._path = directory
        self._line: int | None = None

    def records(self) -> Iterator[Record]:
        """All entries that can be read, in order; those with problems too."""
        for file in self._files():
            self._path, self._line = self.report.directory / file.name, None
            self.report.files += 1
            try:
                yield from self._records(file)
            except OSError as error:
                self._find(ProblemKind.UNREADABLE, f"cannot be read: {error.strerror}")
        self._finish()

    def _files(self) -> list[LogFileName]:
        try:
            files = list_files(self.report.directory)
        except OSError as error:
            self._find(ProblemKind.UNREADABLE, f"cannot be read: {error.strerror}")
            return []
        if not files:
            self._find(ProblemKind.NO_LOG, "holds no log")
        return files

    def _records(self, file: LogFileName) -> Iterator[Record]:
        if not self._path.is_file():
            self._find(ProblemKind.UNREADABLE, "is no file")
            return
        is_empty = True
        for line in read_lines(self._path):
            self._line = line.number
            record = self._parsed(line)
            if is_empty:
                is_empty = False
                if not self._begin_file(file, record):
                    return
            elif record is not None and isinstance(record.entry, Header):
                self._find(ProblemKind.HEADER_MISPLACED, "is a header inside a file", record)
            if record is not None:
                self._follow(record)
                yield record
        if is_empty:
            self._find(ProblemKind.HEADER_MISSING, "is empty")

    def _parsed(self, line: Line) -> Record | None:
        try:
            if line.problem is not None:
                raise ValueError(line.problem)
            return parse_line(line.data)
        except ValueError as error:
            kind = ProblemKind.HALF_WRITTEN if line.problem == HALF_WRITTEN else ProblemKind.MALFORMED
            self._find(kind, str(error))
            # It may stand for any number of entries; the next one that can be read says where the log goes on.
            self._is_sure = False
            return None

    def _begin_file(self, file: LogFileName, record: Record | None) -> bool:
        """Check a file's place in the log; gives whether its entries belong to it."""
        if file.number < self._next_file:
            self._find(ProblemKind.FORK, f"has number {file.number}, as another file has")
            return False
        if file.number > self._next_file and self.report.log is not None:
            self._find(ProblemKind.FILE_MISSING, f"has number {file.number}; file {self._next_file} is missing")
        self._next_file, self._promised = file.number + 1, False
        if record is None or not isinstance(header := record.entry, Header):
            self._find(ProblemKind.HEADER_MISSING, "does not begin with a header", record)
            return True
        if header.format != FORMAT:
            self._find(ProblemKind.MALFORMED, "is in another format than this version reads", record)
            return False
        if self.report.log not in (None, header.log):
            self._find(ProblemKind.MIXED_LOGS, f"belongs to another log, {header.log}", record)
            return False
        if header.file != file.number:
            self._find(ProblemKind.HEADER_MISPLACED, f"says that it is file {header.file}", record)
        self._check_key(header, record)
        if self.report.log is None:
            self._begin_log(header, record)
        self.report.public_key = header.public_key
        return True

    def _begin_log(self, header: Header, record: Record) -> None:
        report = self.report
        report.log, report.deployment, report.replica = header.log, header.deployment, header.replica
        report.withdrawals = header.withdrawals or None
        own = self._replicas.get(header.replica)
        if own is not None and own.log != header.log:
            text = f"is not the log that replica {header.replica} had: {own} was anchored"
            self._find(ProblemKind.ANCHOR_DIFFERS, text, record)
        for anchor in {*self._all_anchors, *self._replicas.values()}:
            if anchor.log == header.log:
                report.is_anchored = True
                self._anchors.setdefault(anchor.entry, []).append(anchor.hash)
        link = header.previous
        if link is None:
            return
        if not self._is_part:
            text = f"continues file {link.file}, which is missing: entries up to {link.entry} are not here"
            self._find(ProblemKind.BEGINNING_MISSING, text, record)
        self._position = Position(link.entry + 1, bytes.fromhex(link.hash), unsigned=header.unsigned)
        self._calls.begin(header)
        for entry in [entry for entry in self._anchors if entry <= link.entry]:
            self._drop_anchor(entry, link.entry, link.hash, record)

    def _drop_anchor(self, entry: int, last: int, last_hash: str, record: Record) -> None:
        """An anchor in the missing part: nothing can be said, unless it is about its very end."""
        hashes = self._anchors.pop(entry)
        if entry == last and any(each != last_hash for each in hashes):
            self._find(ProblemKind.ANCHOR_DIFFERS, f"continues another entry {entry} than the anchored one", record)

    def _check_key(self, header: Header, record: Record) -> None:
        self.report.is_key_given = bool(self._keys)
        if self._keys and header.public_key not in self._keys:
            self._find(ProblemKind.KEY_UNKNOWN, f"is signed with another key, {header.public_key}", record)
        elif not self._keys and self.report.public_key not in (None, header.public_key):
            self._find(ProblemKind.KEY_CHANGED, f"goes on with another key, {header.public_key}", record)

    def _follow(self, record: Record) -> None:
        report, position = self.report, self._position
        if self._is_sure and record.number > position.next:
            text = f"entries {position.next} to {record.number - 1} are missing before it"
            self._find(ProblemKind.ENTRIES_MISSING, text, record)
        elif record.number < position.next:
            self._find(ProblemKind.OUT_OF_ORDER, f"stands where entry {position.next} must stand", record)
        elif self._is_sure and not record.follows(position.hash):
            self._find(ProblemKind.CHANGED, "does not follow from the entry before: this or that was changed", record)
        if record.at < position.at:
            self._find(ProblemKind.CLOCK_WENT_BACK, f"is of {record.at}, the entry before of {position.at}", record)
        match record.entry:
            case Checkpoint():
                self._check_signature(record.entry, record)
            case Header() if self._is_sure and not _links(record.entry, position):
                self._find(ProblemKind.HEADER_MISPLACED, "does not link to the entry before", record)
            case Rotation():
                self._promised = True
            case WithdrawalsInForce():
                report.withdrawals = record.entry
            case _:
                pass
        for kind, text in self._calls.follow(record.entry):
            self._find(kind, text, record)
        self._check_anchor(record)
        self._position, self._is_sure = position.after(record), True
        if self._position.unsigned == CHECKPOINT_ENTRIES + 1:
            self._find(
                ProblemKind.UNSIGNED, f"is one entry more than {CHECKPOINT_ENTRIES} without a checkpoint", record
            )
        report.entries += 1
        report.last_entry, report.last_at = record.number, record.at

    def _check_signature(self, checkpoint: Checkpoint, record: Record) -> None:
        report, position = self.report, self._position
        since = 0 if report.signed_to is None else report.signed_to + 1
        payload = checkpoint_payload(report.log or "", position, record.at)
        key = report.public_key or ""
        if checkpoint.head != position.hash.hex() or not holds(key, checkpoint, payload):
            text = f"is no checkpoint of the log's key over the entries before: some of {since} to {record.number - 1}"
            self._find(ProblemKind.SIGNATURE_INVALID, f"{text} were changed, or it was", record)
        elif not report.problems:
            report.signed_to = record.number - 1

    def _check_anchor(self, record: Record) -> None:
        hashes = self._anchors.pop(record.number, [])
        if any(each != record.hash.hex() for each in hashes):
            self._find(ProblemKind.ANCHOR_DIFFERS, "is another entry than the anchored one", record)

    def _finish(self) -> None:
        report = self.report
        report.open_calls = len(self._calls.open)
        self._line = None
        if self._promised:
            self._find(ProblemKind.FILE_MISSING, f"goes on in file {self._next_file}, which is missing")
        self._path = report.directory
        for entry in self._anchors:
            if report.last_entry is None or report.last_entry < entry:
                self._find(ProblemKind.TRUNCATED, f"ends at entry {report.last_entry}; entry {entry} was anchored")
            else:
                self._find(ProblemKind.ANCHOR_DIFFERS, f"lacks entry {entry}, which was anchored")

    def _find(self, kind: ProblemKind, text: str, record: Record | None = None) -> None:
        number = None if record is None else record.number
        self.report.add(Problem(kind, str(self._path), self._line, number, text))


def _links(header: Header, position: Position) -> bool:
    link = header.previous
    if link is None:
        return position.next == 0
    return (link.entry, link.hash) == (position.next - 1, position.hash.hex())
