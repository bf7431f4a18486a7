"""Runs command lines as a user would type them, and passes their output on as it comes."""

from __future__ import annotations

import codecs
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sluicegate.server.demo.errors import CommandStuck

LIMIT_SECONDS = 60.0
"""No command of the tour takes a tenth of it, unless something is wrong."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended. `output` is all that it wrote, standard error included."""

    exit_code: int
    output: str


def environment(programs: Path, target: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment with our programs first on the path, and the demo's server as the only setting."""
    kept = {name: value for name, value in inherited.items() if not name.startswith("SLUICEGATE_")}
    path = os.pathsep.join([str(programs), inherited.get("PATH", os.defpath)])
    return {**kept, "PATH": path, "SLUICEGATE_TARGET": target}


class Shell:
    """/bin/sh with the demo's environment."""

    def __init__(self, variables: Mapping[str, str], limit_seconds: float = LIMIT_SECONDS) -> None:
        self._variables = variables
        self._limit_seconds = limit_seconds

    def run(self, line: str, show: Callable[[str], None], interrupt_when: Callable[[], bool] | None = None) -> Outcome:
        """Run a line to its end; `show` gets the output in pieces.

        `interrupt_when` is asked after each piece; once it says yes, the command gets what Ctrl-C sends. Whatever
        ends this call early ends the command too. Raises CommandStuck.
        """
        process = subprocess.Popen(  # noqa: S603  (the lines are the tour's own)
            ["/bin/sh", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._variables,
            start_new_session=True,  # a group of its own: it can be interrupted alone, with all that it started
        )
        pieces: list[str] = []
        try:
            for piece in self._pieces(process, line):
                pieces.append(piece)
                show(piece)
                if interrupt_when is not None and interrupt_when():
                    interrupt_when = None
                    os.killpg(process.pid, signal.SIGINT)
            return Outcome(process.wait(), "".join(pieces))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def _pieces(self, process: subprocess.Popen[bytes], line: str) -> Iterator[str]:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        deadline = time.monotonic() + self._limit_seconds
        while True:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise CommandStuck(f"did not end within {self._limit_seconds:.0f} s: {line}")
            chunk = os.read(descriptor, 4096)
            if text := decoder.decode(chunk, final=not chunk):
                yield text
            if not chunk:
                return
