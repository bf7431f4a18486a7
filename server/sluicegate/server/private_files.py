"""Secrets that stand in a file's one line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sluicegate.server.errors import SettingsError


def read_secret_line(path: Path, setting: str, *, least_bytes: int, most_bytes: int) -> bytes:
    """The file's one line, without its end. `setting` is the one that names the file, for problems to be told of.

    Raises SettingsError for a line too short or too long, for more than one, and if everybody could read the file.
    """
    problem: str | None
    try:
        with path.open("rb") as file:
            is_open = bool(stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o007)
            line = file.read(most_bytes + 2).removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    else:
        if is_open:
            problem = f"can be read by everybody; run: chmod o-rwx {path}"
        elif not least_bytes <= len(line) <= most_bytes or b"\n" in line:
            problem = f"must hold one line of {least_bytes} to {most_bytes} bytes"
        else:
            return line
    raise SettingsError([f"{setting}: {path} {problem}"])
