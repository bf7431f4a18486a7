"""The machine under a measurement: what it is, and who used its processors meanwhile. Linux only: it reads /proc."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROC = Path("/proc")
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
"""Of /proc/cpuinfo: the ones that decide which kernels an engine may take."""
TICKS = os.sysconf("SC_CLK_TCK")
DISTURBED_CORES = 0.1
"""More than that much of a core used by others, and a round says little."""


def describe(packages: Iterable[str] = ()) -> dict[str, object]:
    """For a result: processor, memory, versions of Python and of these packages, and the day."""
    return {
        "cpu": _cpu_line("model name"),
        "flags": [flag for flag in FLAGS if flag in _cpu_line("flags").split()],
        "cores": cores(),
        "memory_gib": round(_meminfo("MemTotal") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in packages},
        "date": datetime.now(UTC).date().isoformat(),
    }


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def available_bytes() -> int:
    """Memory that can be taken without swapping, as the kernel estimates it."""
    return _meminfo("MemAvailable")


def version_of(package: str) -> str:
    """The installed version; "absent" where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def family(pid: int) -> set[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = set[int](), [pid]
    while todo:
        found.add(parent := todo.pop())
        todo += children.get(parent, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time these processes have used so far, and the children that they have waited for."""
    ticks = (sum(map(int, fields[11:15])) for pid in pids if (fields := _stat(pid)) is not None)
    return sum(ticks) / TICKS


def main_thread_seconds(pid: int) -> float:
    """Processor time that the process' first thread has used so far."""
    fields = _stat(pid, f"task/{pid}/")
    return 0.0 if fields is None else sum(map(int, fields[11:13])) / TICKS


def peak_bytes(pids: Iterable[int]) -> int:
    """The sum of the processes' own peaks of resident memory; pages that they share count for each."""
    return sum(_peak(pid) for pid in pids)


def own_bytes(pids: Iterable[int]) -> int:
    """Memory of these processes that is no file's, resident or swapped (proc_pid_smaps_rollup of proc(5))."""
    return sum(_rollup(pid, "Anonymous:", "Swap:") for pid in pids)


@dataclass(slots=True)
class Usage:
    """Processor time of a stretch of time; filled when the stretch ends."""

    seconds: float = 0.0
    own: float = 0.0  # of the processes that were named
    others_cores: float = 0.0  # cores that all else kept busy, what the hypervisor took away included

    @property
    def is_disturbed(self) -> bool:
        return self.others_cores > DISTURBED_CORES


@contextmanager
def usage(pids: Sequence[int]) -> Iterator[Usage]:
    """Measure a stretch: of these processes and their descendants, as they are at its begin and at its end."""
    found, begun = Usage(), time.perf_counter()
    own, busy = cpu_seconds(_families(pids)), _busy_seconds()
    yield found
    found.own = max(cpu_seconds(_families(pids)) - own, 0.0)
    found.seconds = time.perf_counter() - begun
    found.others_cores = max(_busy_seconds() - busy - found.own, 0.0) / found.seconds


def _families(pids: Sequence[int]) -> set[int]:
    return set[int]().union(*map(family, pids))


def _busy_seconds() -> float:
    """Of all processors: user, nice, system, both kinds of interrupts, and what the hypervisor took (proc_stat(5))."""
    with (PROC / "stat").open() as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def _stat(pid: int, of: str = "") -> list[str] | None:
    """Fields of proc_pid_stat(5) from the state on, of a thread where `of` names it; None if the process is gone."""
    try:
        return (PROC / f"{pid}/{of}stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _peak(pid: int) -> int:
    try:
        lines = (PROC / f"{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _rollup(pid: int, *names: str) -> int:
    try:
        lines = (PROC / f"{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(names))


def _cpu_line(name: str) -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _meminfo(name: str) -> int:
    lines = (PROC / "meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
