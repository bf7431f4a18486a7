"""How much of this machine's processor an engine may use."""

from __future__ import annotations

import os
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may use at once, at least one: those of its affinity, two threads of one core counted
    once, and no more than the control group's CPU quota (version 2) pays for, rounded up.

    A second thread on a core adds nothing to work that waits for memory, and more threads than the quota allows would
    be stopped in the middle of a step while the others wait for them.
    """
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = {_siblings(cpu) or str(cpu) for cpu in cpus}
    quota = _quota()
    return max(1, len(cores) if quota is None else min(len(cores), quota))


def _siblings(cpu: int) -> str:
    try:
        return (TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return ""


def _quota() -> int | None:
    """The smallest limit among the process' control group and those above it."""
    try:
        groups = OWN_CGROUP.read_text().splitlines()
    except OSError:
        groups = []
    path = next((line.split(":", 2)[2] for line in groups if line.startswith("0::")), "/")
    directory = CGROUPS / path.strip("/")
    limits = [_limit(place / "cpu.max") for place in (directory, *directory.parents) if place.is_relative_to(CGROUPS)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(path: Path) -> int | None:
    try:
        quota, period = path.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else -(-int(quota) // int(period))
