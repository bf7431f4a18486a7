"""A directory of texts: read in pieces, whatever its size, and named by its content."""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import rfc8785

from sluicegate.client.errors import FileRefused

PIECE_BYTES = 8 << 20
MOST_FILES = 100_000


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file, as it was when the corpus was opened."""

    path: Path
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a file, with as much before and after it as was asked for and is there."""

    start: int
    """Offset of the stretch in the file."""
    size: int
    """Bytes of the stretch."""
    before: int
    """Bytes of `content` that lie before it."""
    content: bytes


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files that are not empty, sorted by path."""

    files: tuple[CorpusFile, ...]

    @property
    def sha256(self) -> str:
        """Of the canonical JSON (RFC 8785) of the files' digests, sorted."""
        return hashlib.sha256(rfc8785.dumps(sorted(file.sha256 for file in self.files))).hexdigest()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def open_corpus(directory: Path) -> Corpus:
    """Every file under the directory, hashed; those whose names begin with a dot are passed over.

    Raises FileRefused for a file that is no UTF-8 text, since outputs are compared byte by byte and would never be
    found in another encoding; for links, pipes and devices; for a corpus without text, and one of over 100,000 files.
    """
    files: list[CorpusFile] = []
    for path in _paths(directory):
        if len(files) == MOST_FILES:
            raise FileRefused(f"{directory} has more than {MOST_FILES} files: join some of them")
        if (file := _hashed(path)).bytes:
            files.append(file)
    if not files:
        raise FileRefused(f"{directory} has no text in it")
    return Corpus(tuple(files))


def pieces(file: CorpusFile, margin: int, size: int = PIECE_BYTES) -> Iterator[Piece]:
    """The file in stretches of `size` bytes, each with `margin` bytes before and after. Raises FileRefused if the file
    has changed since the corpus was opened."""
    digest = hashlib.sha256()
    with _open(file.path) as opened:
        carried, start = b"", 0
        ahead = opened.read(size + margin)
        while ahead:
            stretch = ahead[:size]
            digest.update(stretch)
            yield Piece(start, len(stretch), len(carried), carried + ahead)
            carried = (carried + stretch)[-margin:] if margin else b""
            start += len(stretch)
            ahead = ahead[size:] + opened.read(size + margin - len(ahead[size:]))
    if start != file.bytes or digest.hexdigest() != file.sha256:
        raise FileRefused(f"{file.path} has changed while it was read; run it again on a corpus that stands still")


def read_at(file: CorpusFile, offset: int, size: int) -> bytes:
    """Up to so many bytes from there. Raises FileRefused."""
    with _open(file.path) as opened:
        opened.seek(offset)
        return opened.read(size)


def _paths(directory: Path) -> Iterator[Path]:
    def refuse(fault: OSError) -> None:
        raise FileRefused(f"{fault.filename} cannot be read: {fault.strerror}")

    if not directory.is_dir():
        raise FileRefused(f"{directory} is no directory")
    for folder, folders, names in os.walk(directory, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise FileRefused(f"{Path(folder) / name} is a link: a corpus has files and directories only")
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder) / name


def _open(path: Path) -> BinaryIO:
    try:
        # Opening a pipe would wait for its writer.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb")
    except OSError as fault:
        raise FileRefused(f"{path} cannot be read: {fault.strerror}") from fault
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileRefused(f"{path} is no regular file")
    return file


def _hashed(path: Path) -> CorpusFile:
    digest, decoder, size = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")(), 0
    with _open(path) as file:
        while True:
            block = file.read(PIECE_BYTES)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError:
                raise FileRefused(f"{path} is not UTF-8 (after byte {size}): convert it, or take it out") from None
            if not block:
                return CorpusFile(path, size, digest.hexdigest())
            digest.update(block)
            size += len(block)
