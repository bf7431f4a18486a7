"""Reading of data files that the user supplies: bounded, UTF-8, refused with the place of what is wrong."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sluicegate.client.errors import FileRefused

MAX_BYTES = 16 << 20
MAX_SENTENCE_CHARACTERS = 4_000
"""Far above any sentence of these suites, and less than GPT-2 can read."""


_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file's text, and its digest."""

    path: Path
    text: str
    sha256: str

    @property
    def first_line(self) -> str:
        """Without its end; empty for an empty file."""
        return self.text.split("\n", 1)[0].rstrip("\r")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Lines that are not empty, with their numbers."""
        for number, line in enumerate(self.text.split("\n"), 1):
            if line.strip():
                yield number, line.strip()

    def table(
        self, delimiter: str, columns: Sequence[str], *, is_quoted: bool
    ) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The named columns of each row, with its last line's number. Raises FileRefused."""
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
        try:
            header = next(reader, [])
            missing = [name for name in columns if header.count(name) != 1]
            if missing:
                raise self.refused(1, f"needs the columns {', '.join(columns)}; {missing[0]} is not there once")
            places = [header.index(name) for name in columns]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise self.refused(reader.line_num, f"has {len(row)} columns and not {len(header)}")
                yield reader.line_num, tuple(row[place].strip() for place in places)
        except csv.Error as fault:
            raise self.refused(reader.line_num, f"is no row of a table: {fault}") from None

    def sentence(self, line: int, text: str) -> str:
        """The sentence, if it can be scored. Raises FileRefused."""
        if not text or len(text) > MAX_SENTENCE_CHARACTERS:
            raise self.refused(line, f"a sentence has 1 to {MAX_SENTENCE_CHARACTERS} characters")
        if _CONTROLS.search(text):
            raise self.refused(line, "a sentence has no control characters")
        return text

    def refused(self, line: int, why: str) -> FileRefused:
        """The error of a line."""
        return FileRefused(f"{self.path}:{line}: {why}")


def read_data_file(path: Path) -> DataFile:
    """The file. Raises FileRefused for what is no UTF-8 text of a bearable size."""
    try:
        # Opening a pipe would wait for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileRefused(f"{path} is no regular file")
            raw = file.read(MAX_BYTES + 1)
    except OSError as fault:
        raise FileRefused(f"{path} cannot be read: {fault.strerror}") from fault
    if len(raw) > MAX_BYTES:
        raise FileRefused(f"{path} is longer than {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise FileRefused(f"{path} is not UTF-8 (byte {fault.start})") from None
    return DataFile(path, text, hashlib.sha256(raw).hexdigest())
