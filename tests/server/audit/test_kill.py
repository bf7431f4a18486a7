"""A server that is killed as it writes, again and again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import audit_victim
import pytest
from audit_logs import FakeClock, entries, kinds, write_log

from sluicegate.server.audit.entries import Closing, Interrupted, Opening

LATER = 4e9
"""After every clock that the writers can have had."""


def acknowledged_until_killed(directory: Path, name: str, count: int) -> list[str]:
    """Start a writer and kill it (SIGKILL) once it has acknowledged so many openings; all that it acknowledged."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(audit_victim.__file__), str(directory), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as victim:
        assert victim.stdout is not None
        told = [victim.stdout.readline() for _ in range(count)]
        victim.kill()
        told += victim.stdout.readlines()
    return [line.removesuffix("\n") for line in told if line.endswith("\n")]


@pytest.mark.timeout(300)
def test_a_killed_writer_loses_no_opening_that_it_acknowledged(tmp_path: Path) -> None:
    directory = tmp_path / "log"

    acknowledged = [
        call
        for kill, count in enumerate((1, 40, 77, 150, 300))
        for call in acknowledged_until_killed(directory, f"life-{kill}", count)
    ]
    head = write_log(directory, clock=FakeClock(LATER))

    written = entries(directory)
    opened = [entry.call for entry in written if isinstance(entry, Opening)]
    ended = [entry.call for entry in written if isinstance(entry, Closing | Interrupted)]
    assert len(acknowledged) >= 568
    assert set(acknowledged) <= set(opened)
    assert sorted(opened) == sorted(ended)
    assert kinds(directory, anchors=[head]) == []
