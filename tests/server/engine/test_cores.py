from __future__ import annotations

import os
from pathlib import Path

import pytest

from sluicegate.server.engine import cores
from sluicegate.server.engine.cores import usable_cores


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Four cores of two threads each (0 and 4, 1 and 5, ...), no control group."""
    for cpu in range(8):
        directory = tmp_path / f"cpu/cpu{cpu}/topology"
        directory.mkdir(parents=True)
        (directory / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    (tmp_path / "cgroup/pods/one").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/pods/one\n")
    monkeypatch.setattr(cores, "TOPOLOGY", tmp_path / "cpu")
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return tmp_path


@pytest.mark.parametrize(
    ("affinity", "count"), [({0}, 1), ({0, 4}, 1), ({0, 1}, 2), ({1, 2, 5, 6}, 2), (set(range(8)), 4)]
)
def test_two_threads_of_a_core_count_once(
    machine: Path, monkeypatch: pytest.MonkeyPatch, affinity: set[int], count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: affinity)

    assert usable_cores() == count


def test_cpus_of_unknown_topology_count_each(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "TOPOLOGY", machine / "absent")

    assert usable_cores() == 8


@pytest.mark.parametrize(
    ("place", "limit", "count"),
    [
        ("pods/one", "200000 100000", 2),
        ("pods/one", "150000 100000", 2),
        ("pods/one", "1000 100000", 1),
        ("pods/one", "900000 100000", 4),
        ("pods/one", "max 100000", 4),
        ("pods/one", "damaged", 4),
        ("pods", "300000 100000", 3),
        (".", "100000 100000", 1),
    ],
)
def test_quota_of_the_control_group_and_those_above_limits_the_cores(
    machine: Path, place: str, limit: str, count: int
) -> None:
    (machine / "cgroup" / place / "cpu.max").write_text(f"{limit}\n")

    assert usable_cores() == count


def test_system_without_affinity_counts_its_cpus(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)

    assert usable_cores() == 4  # 4 and 5 are second threads


def test_machine_without_control_groups_is_limited_by_its_cores_alone(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "OWN_CGROUP", machine / "absent")

    assert usable_cores() == 4
