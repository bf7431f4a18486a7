"""Clocks of server processes that tests set, each for one replica alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".cpp")


def build_clock(directory: Path) -> Path:
    """Compile the library that a process with a SteppedClock is preloaded with."""
    compiler = shutil.which("c++")
    assert compiler is not None, "no C++ compiler is installed: run `make e2e`"
    library = directory / "stepped_clock.so"
    subprocess.run([compiler, "-std=c++17", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return library


class SteppedClock:
    """The clock of a replica's processes as far as it can be set; the one that only goes forward stays as it is."""

    def __init__(self, library: Path, file: Path) -> None:
        self.environment = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(file)}
        """What a process goes by this clock with."""
        self._file = file
        self._file.touch()
        self.set_ahead(0)

    def set_ahead(self, seconds: int) -> None:
        """Set it so far ahead of the true time; below 0: behind. It counts at once."""
        with self._file.open("r+b") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))
