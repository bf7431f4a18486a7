"""A virtual environment for each peer, made once: what one peer needs never meets what another needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.machine import version_of
from bench.peers.catalog import Environment
from bench.terminal import say

INSTALL_SECONDS = 1_800.0
MARK = "complete"
"""A file in a finished environment, with what was asked of pip."""
LIBRARIES = (Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64"), Path("/usr/lib"))


class EnvironmentNotMade(Exception):
    """pip could not install a peer; the text says where its output is."""


def python_of(environment: Environment | None, directory: Path) -> Path:
    """The interpreter of this environment, which is made if it is not complete. Raises EnvironmentNotMade."""
    if environment is None:
        return Path(sys.executable)
    place = directory / environment.name
    python, mark, log = place / "bin/python", place / MARK, place.with_suffix(".log")
    # torch of our own version: where a smaller build of it is at hand, pip was told so for ours.
    ours = f"torch=={version_of('torch').partition('+')[0]}"
    wanted = [ours if each == "torch" else each for each in environment.installs]
    if not mark.is_file() or mark.read_text(encoding="utf-8").split() != wanted:
        say(f"installing {', '.join(wanted)} into {place}; this may take minutes")
        directory.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        _run([sys.executable, "-m", "venv", os.fspath(place)], log)
        pip = [os.fspath(python), "-m", "pip"]
        _run([*pip, "install", *wanted], log)
        if environment.removes:
            _run([*pip, "uninstall", "--yes", *environment.removes], log)
        mark.write_text("\n".join(wanted), encoding="utf-8")
    return python


def preloaded(environment: Environment | None, directory: Path) -> str:
    """LD_PRELOAD for this environment's programs: of its libraries those found in it or on the system."""
    if environment is None:
        return ""
    places = (directory / environment.name / "lib", *LIBRARIES)
    found = [next((path for place in places for path in place.glob(name)), None) for name in environment.preloads]
    return ":".join(os.fspath(path) for path in found if path is not None)


def _run(command: list[str], log: Path) -> None:
    with log.open("a", encoding="utf-8") as file:
        try:
            process = subprocess.run(  # noqa: S603  (venv and pip)
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=INSTALL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EnvironmentNotMade(f"not installed within {INSTALL_SECONDS:.0f} s; see {log}") from None
    if process.returncode:
        raise EnvironmentNotMade(f"pip failed; see {log}")
