"""What an evaluation has measured so far: a file that an interrupted run goes on with, and that shows any change.

Each line is `{"entry": …, "sha256": …}`, canonical JSON, and its digest covers the entry and the digest of the line
before. So a line that was changed, taken out or moved does not fit. It is no signature: whoever can write the file can
write another whole one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import rfc8785

from sluicegate.client.errors import FileRefused

_MAX_LINE_BYTES = 4 << 20
_TIME = "%Y-%m-%dT%H:%M:%SZ"

Entry = dict[str, Any]


class Journal:
    """The entries of one run; opening repairs a last line that was cut off. One process at a time.

    `run` says what is measured. A file that was begun for anything else, and one that was changed, raise FileRefused
    and are left as they are. Readable by its owner alone: it may hold a model's output.
    """

    def __init__(self, path: Path, run: Mapping[str, object]) -> None:
        self._path = path
        self._digest = ""
        self._first: Entry = {}
        self._ended: str | None = None
        self.entries: list[Entry] = []
        """In the order in which they were made."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
            self._file = os.fdopen(os.open(path, flags, 0o600), "r+b")
        except OSError as fault:
            raise FileRefused(f"{path} cannot be written: {fault.strerror}") from fault
        try:
            self._begin(dict(run))
        except OSError as fault:
            self._file.close()
            raise FileRefused(f"{path} cannot be read: {fault.strerror}") from fault
        except BaseException:
            self._file.close()
            raise

    @property
    def began(self) -> datetime:
        """When the first run began."""
        return _time(self._first["began"])

    @property
    def ended(self) -> datetime | None:
        """When everything was measured; None before `end`."""
        return None if self._ended is None else _time(self._ended)

    def add(self, entry: Entry) -> None:
        """Write an entry as one line, at once."""
        assert self._ended is None, "nothing is measured after the end"
        self._write(entry)
        self.entries.append(entry)

    def end(self) -> None:
        """Everything is measured. Nothing if that was said before."""
        if self._ended is None:
            self._ended = _now()
            self._write({"ended": self._ended})

    def refuse(self, why: str) -> FileRefused:
        """The error of a file that cannot be gone on with."""
        return FileRefused(f"{self._path} {why}; move it away to begin anew")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _begin(self, run: Entry) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            raise FileRefused(f"{self._path} is being written by another run") from fault
        found = self._load()
        if not found:
            self._first = {"began": _now(), "run": run}
            self._write(self._first)
            return
        self._first = found[0]
        if set(self._first) != {"began", "run"}:
            raise self.refuse("is no journal of an evaluation")
        self._require_same(self._first["run"], run)
        self.entries = found[1:]
        if self.entries and set(self.entries[-1]) == {"ended"}:
            self._ended = self.entries.pop()["ended"]

    def _require_same(self, found: object, run: Entry) -> None:
        if not isinstance(found, dict):
            raise self.refuse("is no journal of an evaluation")
        # As JSON has it: a tuple comes back as a list.
        wanted = json.loads(rfc8785.dumps(run))
        changed = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        if changed:
            raise self.refuse(f"is of a run that differs in: {', '.join(changed)}")

    def _load(self) -> list[Entry]:
        found: list[Entry] = []
        whole = 0
        while line := self._file.readline(_MAX_LINE_BYTES + 1):
            if not line.endswith(b"\n"):
                if len(line) > _MAX_LINE_BYTES or not _may_begin_an_entry(line):
                    raise self._changed(len(found) + 1)
                break
            try:
                document = json.loads(line)
                entry, digest = document["entry"], document["sha256"]
                fits = isinstance(entry, dict) and digest == self._chained(entry) and set(document) == _MEMBERS
            except (ValueError, TypeError, KeyError, RecursionError):
                fits = False
            if not fits:
                raise self._changed(len(found) + 1)
            self._digest = digest
            found.append(entry)
            whole += len(line)
        self._file.truncate(whole)
        return found

    def _chained(self, entry: Entry) -> str:
        return hashlib.sha256(self._digest.encode() + rfc8785.dumps(entry)).hexdigest()

    def _write(self, entry: Entry) -> None:
        digest = self._chained(entry)
        self._file.write(rfc8785.dumps({"entry": entry, "sha256": digest}) + b"\n")
        self._file.flush()
        self._digest = digest

    def _changed(self, line: int) -> FileRefused:
        return self.refuse(f"was damaged or changed in line {line}")


_MEMBERS = {"entry", "sha256"}
_LINE_START = b'{"entry":{'


def _may_begin_an_entry(line: bytes) -> bool:
    return line.startswith(_LINE_START) or _LINE_START.startswith(line)


def _now() -> str:
    return datetime.now(UTC).strftime(_TIME)


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
