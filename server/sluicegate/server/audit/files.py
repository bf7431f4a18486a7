"""The files of a log: a directory of its own, a lock, and files that only grow."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sluicegate.server.audit.errors import AuditLogInUse, AuditSetupError

LOCK_FILE = "lock"
TORN_SUFFIX = ".torn"

_NAME = re.compile(r"audit-\d{8}T\d{6}Z-(\d{6,12})\.jsonl", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class LogFileName:
    """One file of a log. Files sort by number: a clock may go back."""

    number: int
    name: str


def file_name(number: int, now: float) -> str:
    return f"audit-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{number:06}.jsonl"


def list_files(directory: Path) -> list[LogFileName]:
    """The files of the log in order. Raises OSError."""
    matches = (_NAME.fullmatch(path.name) for path in directory.iterdir())
    return sorted(LogFileName(int(match[1]), match[0]) for match in matches if match)


def torn_pieces(directory: Path) -> list[LogFileName]:
    """What was set aside, in order; each has the number of the file it was in. Raises OSError."""
    names = [path.name for path in directory.iterdir()]
    pairs = ((_NAME.fullmatch(name.partition(TORN_SUFFIX)[0]), name) for name in names)
    return sorted(LogFileName(int(match[1]), name) for match, name in pairs if match and TORN_SUFFIX in name)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only writer of a directory, made if need be. The lock of a process that died is free.

    Raises AuditLogInUse, and AuditSetupError for a directory that others could read or write, or that cannot be had.
    """
    try:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            sync_directory(directory.parent)
        if stat.S_IMODE(directory.stat().st_mode) & 0o077:
            raise AuditSetupError(f"{directory} is open to others; run: chmod 700 {directory}")
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise AuditSetupError(f"{directory}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AuditLogInUse(f"{directory} is written by another process") from None
        yield
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make names in it durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LogFile:
    """A file that is appended to. What one `append` wrote is on the disk as a whole, or is taken back. One thread."""

    def __init__(self, path: Path) -> None:
        """Make the file. Raises OSError, also if there is one of this name."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        self._is_dirty = False
        self.size = 0

    def append(self, data: bytes) -> None:
        """Write and sync. Raises OSError; the file then ends where it ended before, now or before the next append.

        After a failed fsync Linux takes the pages for clean, so that a second fsync would succeed without them
        (fsync(2), and Rebello et al., "Can Applications Recover from fsync Failures?", 2020): nothing that was not
        synced is relied on, it is cut off and written again.
        """
        if self._is_dirty:
            self._take_back()
        self._is_dirty = True
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fdatasync(self._descriptor)
            if not os.fstat(self._descriptor).st_nlink:
                raise OSError(errno.ENOENT, "the file was deleted")
        except OSError:
            with suppress(OSError):
                self._take_back()
            raise
        self._is_dirty = False
        self.size += len(data)

    def close(self) -> None:
        os.close(self._descriptor)

    def _take_back(self) -> None:
        os.ftruncate(self._descriptor, self.size)
        os.fsync(self._descriptor)
        self._is_dirty = False


def create_file(path: Path, data: bytes) -> LogFile:
    """A new file that begins with `data`, durable by its name too. Raises OSError and leaves no file then."""
    file = LogFile(path)
    try:
        file.append(data)
        sync_directory(path.parent)
    except OSError:
        file.close()
        with suppress(OSError):
            path.unlink()
        raise
    return file
