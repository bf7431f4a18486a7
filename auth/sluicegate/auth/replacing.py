"""Putting policy files onto the disk: whole or not at all, and never over what somebody else wrote meanwhile.

A file is written beside its place, under a name that no reader of policies looks at, and takes the place by one step.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from sluicegate.auth.errors import EditingError


def replace_file(path: Path, before: bytes, after: bytes) -> None:
    """Give a file that holds `before` the content `after`; mode and owner stay. Raises EditingError."""
    with _told_of(path), _written(path, after) as new:
        _take_over(new, _status_of(path, before))
        new.replace(path)
        _sync(path.parent)


def create_file(path: Path, content: bytes, like: Path) -> None:
    """Make a file with this content, and with the mode and owner of the file `like`. Raises EditingError.

    What is there is never written over.
    """
    with _told_of(path), _written(path, content) as new:
        _take_over(new, like.stat())
        os.link(new, path)
        _sync(path.parent)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_link = error.errno == errno.ELOOP
        text = "is a symbolic link; name the directory of the file itself" if is_link else error.strerror
        raise EditingError(f"{path}: {text}") from error


@contextmanager
def _written(path: Path, content: bytes) -> Iterator[Path]:
    """A file beside the path that has the content on the disk; it is gone afterwards, unless it was moved."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        new = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            yield new
        finally:
            new.unlink(missing_ok=True)


def _status_of(path: Path, content: bytes) -> os.stat_result:
    """Mode and owner of a file that is no link, and holds just this."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise EditingError(f"{path}: is no regular file")
        if file.read(len(content) + 1) != content:
            raise EditingError(f"{path}: was changed by somebody else meanwhile; look at it and try again")
    return status


def _take_over(new: Path, status: os.stat_result) -> None:
    own = new.stat()
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        os.chown(new, status.st_uid, status.st_gid)
    new.chmod(stat.S_IMODE(status.st_mode))


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
