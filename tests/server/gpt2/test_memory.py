from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sluicegate.server.gpt2 import memory
from sluicegate.server.gpt2.memory import free_bytes

CPU = torch.device("cpu")
MEMINFO = "MemTotal:       24000000 kB\nMemFree:          100000 kB\nMemAvailable:    8000000 kB\n"
HOST_BYTES = 8_000_000 * 1024


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose /proc/meminfo is `system`/meminfo and whose control group is `system` itself."""
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"meminfo": MEMINFO}, HOST_BYTES),
        ({"meminfo": MEMINFO, "memory.max": "max\n", "memory.current": "5000\n"}, HOST_BYTES),
        ({"meminfo": MEMINFO, "memory.max": "9000\n", "memory.current": "5000\n"}, 4000),
        ({"meminfo": MEMINFO, "memory.max": f"{10**12}\n", "memory.current": "5000\n"}, HOST_BYTES),
        ({"memory.max": "9000\n", "memory.current": "5000\n"}, 4000),
        ({"meminfo": "MemTotal: 1 kB\n"}, None),
        ({}, None),
    ],
    ids=["host", "no limit", "container", "limit above the host", "no meminfo", "old kernel", "nothing known"],
)
def test_free_memory_is_the_smaller_of_the_hosts_and_the_containers(
    system: Path, files: dict[str, str], expected: int | None
) -> None:
    for name, content in files.items():
        (system / name).write_text(content)

    assert free_bytes(CPU) == expected


def test_memory_of_this_machine_is_known() -> None:
    free = free_bytes(CPU)

    assert free is not None
    assert 0 < free < 1 << 50
