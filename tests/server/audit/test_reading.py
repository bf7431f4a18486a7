"""Lines of files that anybody may have written."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from sluicegate.server.audit.form import MAX_LINE_BYTES
from sluicegate.server.audit.reading import HALF_WRITTEN, read_lines

LONG = f"is longer than {MAX_LINE_BYTES} octets"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", []),
        (b"one\ntwo\n", [(1, 0, None), (2, 4, None)]),
        (b"one\ntw", [(1, 0, None), (2, 4, HALF_WRITTEN)]),
        (b"x" * (MAX_LINE_BYTES - 1) + b"\n", [(1, 0, None)]),
        (b"x" * MAX_LINE_BYTES + b"\ntwo\n", [(1, 0, LONG), (2, MAX_LINE_BYTES + 1, None)]),
        (b"x" * MAX_LINE_BYTES, [(1, 0, LONG)]),
        (b"x" * (3 * MAX_LINE_BYTES + 5), [(1, 0, LONG)]),
        (b"x" * (3 * MAX_LINE_BYTES) + b"\n\n", [(1, 0, LONG), (2, 3 * MAX_LINE_BYTES + 1, None)]),
    ],
)
def test_lines_are_told_with_their_place(tmp_path: Path, content: bytes, found: list[object]) -> None:
    (tmp_path / "file").write_bytes(content)

    assert [(line.number, line.start, line.problem) for line in read_lines(tmp_path / "file")] == found


def test_a_file_without_lines_does_not_fill_the_memory(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(64 * MAX_LINE_BYTES)

    tracemalloc.start()
    try:
        [line] = read_lines(tmp_path / "file")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert line.problem == LONG
    assert peak < 8 * MAX_LINE_BYTES
