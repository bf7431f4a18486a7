"""What a process takes of its machine, read from /proc: Linux only."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of one process at one moment. `own_bytes`: anonymous memory, swapped or not; the rest of it maps files."""

    own_bytes: int
    resident_bytes: int
    descriptors: int
    threads: int


def footprint(pid: int) -> Footprint:
    """Raises OSError if the process is gone."""
    own = PROC / str(pid)
    rollup = _sizes(own / "smaps_rollup")
    return Footprint(
        own_bytes=rollup["Anonymous"] + rollup["Swap"],
        resident_bytes=rollup["Rss"],
        descriptors=sum(1 for _ in (own / "fd").iterdir()),
        threads=sum(1 for _ in (own / "task").iterdir()),
    )


def zombies(parent: int) -> list[int]:
    """Children that have ended and that nobody has waited for."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                state, ppid, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if state == "Z" and int(ppid) == parent:
                found.append(int(entry.name))
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs of points: a few that lie far off do not move it (Sen 1968)."""
    return statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x2 != x1)


def _sizes(file: Path) -> dict[str, int]:
    """Bytes by name, of lines such as `Rss:   12 kB`."""
    sizes = {}
    for line in file.read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            sizes[name] = int(rest.split()[0]) * 1024
    return sizes
