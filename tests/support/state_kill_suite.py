"""Replicas that are killed while they write. Imported whole by the modules that have a fixture `fresh_url`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import state_process
from state_process import TOKENS_PER_DAY
from state_replicas import LAB, FreshUrl, used

from sluicegate.auth import Quotas
from sluicegate.server.state import Quota, open_store

LIMIT = Quotas(output_tokens_per_day=TOKENS_PER_DAY)


@contextmanager
def replica(url: str, name: str) -> Iterator[subprocess.Popen[str]]:
    """A process that writes until it is killed."""
    command = [sys.executable, state_process.__file__, url, name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if Path(path).is_dir())}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def facts(process: subprocess.Popen[str], count: int) -> list[list[str]]:
    """So many whole lines of what the process had confirmed."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(count)]
    assert all(line.endswith("\n") for line in lines), lines
    return [line.split() for line in lines]


def rest(process: subprocess.Popen[str]) -> list[list[str]]:
    """Kill the process; what it still had said."""
    process.kill()
    assert process.stdout is not None
    return [line.split() for line in process.stdout if line.endswith("\n")]


async def test_what_was_confirmed_outlives_kill_9(fresh_url: FreshUrl) -> None:
    url = fresh_url()
    confirmed = []
    for turn in range(5):
        with replica(url, f"turn-{turn}") as process:
            confirmed += facts(process, 20 + 7 * turn)
            confirmed += rest(process)

    store = await open_store(url)
    entries = {entry.id for entry in (await store.entries()).entries}
    charged = (await used(store, LIMIT))[Quota.OUTPUT_TOKENS_PER_DAY]
    await store.close()

    tokens = sum(int(fact[2]) for fact in confirmed if fact[0] == "reserved")
    assert {fact[1] for fact in confirmed if fact[0] == "withdrawn"} <= entries
    assert tokens <= charged <= tokens + 5 * 3  # one more reservation for each kill may have come too late to be told


async def test_processes_that_write_at_the_same_time_share_the_limit_to_the_token(fresh_url: FreshUrl) -> None:
    url = fresh_url()
    with replica(url, "one") as one, replica(url, "other") as other:
        confirmed = [*facts(one, 800), *facts(other, 800)]

    granted = [int(fact[2]) for fact in confirmed if fact[0] == "reserved"]
    assert sum(granted) <= TOKENS_PER_DAY
    assert ["refused"] in confirmed
    store = await open_store(url)
    (usage,) = await store.usage(LAB, LIMIT)
    await store.close()
    assert usage.used == TOKENS_PER_DAY
