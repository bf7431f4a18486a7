"""Lines of log files, whoever wrote them, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sluicegate.server.audit.form import MAX_LINE_BYTES


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its newline. `problem` says why it cannot be one of ours; its data is then cut short."""

    number: int
    """From 1."""
    start: int
    """Octets before it."""
    data: bytes
    problem: str | None = None


_SHOWN = 100
HALF_WRITTEN = "is half-written: its end is missing"


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file. Raises OSError."""
    with path.open("rb") as file:
        number, start = 0, 0
        while data := file.readline(MAX_LINE_BYTES):
            number += 1
            octets = len(data)
            if data.endswith(b"\n"):
                yield Line(number, start, data[:-1])
            elif octets < MAX_LINE_BYTES:
                yield Line(number, start, data, HALF_WRITTEN)
            else:
                while (more := file.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
                    octets += len(more)
                octets += len(more)
                yield Line(number, start, data[:_SHOWN], f"is longer than {MAX_LINE_BYTES} octets")
            start += octets
