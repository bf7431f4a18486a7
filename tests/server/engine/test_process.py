from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from engine_streams import ids, read, read_token, submission
from engine_worker import DEADLY, ENDLESS, HANGS
from scripted_runner import count_up, scripted_load

from sluicegate.server.engine.client import EngineStream
from sluicegate.server.engine.errors import EngineError, EngineLost, EngineUnavailable
from sluicegate.server.engine.messages import Figures
from sluicegate.server.engine.process import Heartbeat, WorkerProcess, process_launcher

Logs = list[MutableMapping[str, Any]]

STOP_SECONDS = 60.0  # far above what an orderly end takes: a test that is killed after it has failed


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker imports what the tests import."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where workers make their directories."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


async def never(seconds: float) -> None:
    """A heartbeat that never comes round."""
    await asyncio.Event().wait()


class Ticks:
    """A sleep that the test wakes, and that tells when an interval begins."""

    def __init__(self) -> None:
        self._ticks = asyncio.Semaphore(0)
        self._begun = 0
        self._sleeping = asyncio.Condition()

    async def sleep(self, seconds: float) -> None:
        async with self._sleeping:
            self._begun += 1
            self._sleeping.notify_all()
        await self._ticks.acquire()

    async def pass_by(self, count: int) -> None:
        """Let so many intervals pass, until the next one has begun."""
        for _ in range(count):
            await self._pass_one()

    async def _pass_one(self) -> None:
        async with self._sleeping:
            begun = self._begun
            self._ticks.release()
            await self._sleeping.wait_for(lambda: self._begun > begun)


@asynccontextmanager
async def launched(
    *,
    module: str = "engine_worker",
    sleep: Callable[[float], Awaitable[None]] = never,
    silent_limit: int = 3,
    arguments: Sequence[str] = (),
    on_figures: Callable[[Figures], None] | None = None,
) -> AsyncIterator[WorkerProcess]:
    """A worker process, which is killed in the end if it still runs. Nothing of it may be left."""
    heartbeat = Heartbeat(silent_limit=silent_limit)
    launch = process_launcher(module=module, heartbeat=heartbeat, sleep=sleep, arguments=arguments)
    worker = await launch(on_figures)
    assert isinstance(worker, WorkerProcess)
    try:
        yield worker
    finally:
        await worker.stop(0)
    assert not process_exists(worker.pid)
    assert leftovers() == []


def process_exists(pid: int) -> bool:
    """Whether a process runs, or has not been reaped."""
    return Path(f"/proc/{pid}").exists()


def leftovers() -> list[Path]:
    """What workers left in the place of their directories."""
    return list(Path(tempfile.gettempdir()).iterdir())


def exit_codes(logs: Logs) -> list[int]:
    return [entry["code"] for entry in logs if entry["event"] == "engine_exited"]


async def hanging_stream(worker: WorkerProcess) -> EngineStream:
    """A stream whose engine hangs after the first token."""
    await worker.client.load(scripted_load())
    stream = await worker.client.submit(submission(prompt=(HANGS,)))
    await read_token(stream)
    return stream


async def test_tokens_come_from_the_process() -> None:
    async with launched() as worker:
        loaded = await worker.client.load(scripted_load(slots=3))

        events = await read(await worker.client.submit(submission(tokens=20)))

        assert loaded.slots == 3
        assert ids(events) == [count_up(0, 3 + index, (5, 6, 7)) for index in range(20)]


async def test_the_process_gets_its_arguments() -> None:
    async with launched(arguments=("--threads", "7")) as worker:
        loaded = await worker.client.load(scripted_load())

        assert loaded.parameters == 7


# Its end


async def test_stopping_ends_it_in_order(logs: Logs) -> None:
    async with launched() as worker:
        await worker.client.load(scripted_load())

        await worker.stop(STOP_SECONDS)

        assert exit_codes(logs) == [0]
        assert not process_exists(worker.pid)
        assert leftovers() == []


async def test_stopping_twice_does_nothing_more(logs: Logs) -> None:
    async with launched() as worker:
        await worker.stop(STOP_SECONDS)
        await worker.stop(STOP_SECONDS)

        assert exit_codes(logs) == [0]


async def test_a_process_that_does_not_end_in_time_is_killed_and_its_streams_are_lost(logs: Logs) -> None:
    async with launched() as worker:
        stream = await hanging_stream(worker)

        await worker.stop(0.01)

        assert exit_codes(logs) == [-signal.SIGKILL]
        with pytest.raises(EngineLost):
            await read(stream)


@pytest.mark.parametrize("cancels", [1, 2])
async def test_a_cancelled_stop_kills_at_once_and_leaves_nothing_behind(logs: Logs, cancels: int) -> None:
    async with launched() as worker:
        stream = await hanging_stream(worker)
        stopping = asyncio.create_task(worker.stop(3_600.0))
        await asyncio.sleep(0)

        for _ in range(cancels):
            stopping.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await stopping

        assert exit_codes(logs) == [-signal.SIGKILL]
        assert not process_exists(worker.pid)
        assert leftovers() == []
        with pytest.raises(EngineLost):
            await read(stream)


async def test_a_killed_process_ends_its_streams_at_once() -> None:
    async with launched() as worker:
        stream = await hanging_stream(worker)
        reading = asyncio.create_task(read(stream))

        os.kill(worker.pid, signal.SIGKILL)

        with pytest.raises(EngineLost, match="code -9"):
            await reading
        await worker.ended()
        with pytest.raises(EngineUnavailable):
            await worker.client.submit(submission())


async def test_a_process_that_dies_of_a_load_ends_that_load() -> None:
    async with launched() as worker:
        with pytest.raises(EngineLost, match="code 3"):
            await worker.client.load(scripted_load(directory=DEADLY))

        await worker.ended()


async def test_a_process_that_cannot_start_ends_the_load_that_waits_for_it() -> None:
    async with launched(module="no_such_module") as worker:
        with pytest.raises(EngineLost, match="code 1"):
            await worker.client.load(scripted_load())


async def test_a_cancelled_wait_for_the_end_leaves_the_process_alone() -> None:
    async with launched() as worker:
        waiting = asyncio.create_task(worker.ended())
        await asyncio.sleep(0)

        waiting.cancel()
        await asyncio.wait({waiting})

        await worker.client.load(scripted_load())


async def test_without_a_place_for_its_socket_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch, sockets: Path
) -> None:
    deep = make_directory(sockets / ("long" * 30))
    monkeypatch.setattr(tempfile, "tempdir", str(deep))

    with pytest.raises(EngineError, match="too long"):
        await process_launcher(module="engine_worker")(None)

    assert leftovers() == []


def make_directory(path: Path) -> Path:
    path.mkdir()
    return path


async def test_a_fault_in_taking_events_ends_the_streams_that_would_wait_for_them(logs: Logs) -> None:
    def broken(figures: Figures) -> None:
        if figures.batch_rows:
            raise RuntimeError("a fault of ours")

    async with launched(on_figures=broken) as worker:
        await worker.client.load(scripted_load())
        stream = await worker.client.submit(submission())

        with pytest.raises(EngineLost):
            await read(stream)
        await worker.ended()
        assert "engine_events_not_taken" in [entry["event"] for entry in logs]


# Hanging


async def test_an_engine_that_sends_nothing_for_so_many_intervals_is_lost(logs: Logs) -> None:
    ticks = Ticks()
    async with launched(sleep=ticks.sleep, silent_limit=3) as worker:
        stream = await hanging_stream(worker)
        ended = asyncio.create_task(worker.ended())
        await ticks.pass_by(3)  # the first interval saw the token
        assert not ended.done()

        passing = asyncio.create_task(ticks.pass_by(10))
        await ended
        passing.cancel()

        with pytest.raises(EngineLost, match="hangs"):
            await read(stream)
        assert "engine_hangs" in [entry["event"] for entry in logs]
        assert process_exists(worker.pid)


async def test_an_idle_engine_that_answers_is_not_taken_for_one_that_hangs() -> None:
    ticks = Ticks()
    async with launched(sleep=ticks.sleep, silent_limit=1) as worker:
        await worker.client.load(scripted_load())

        for _ in range(5):
            await worker.client.ping()
            await ticks.pass_by(1)

        assert ids(await read(await worker.client.submit(submission(tokens=1)))) != []


async def test_an_engine_that_loads_a_model_is_not_taken_for_one_that_hangs() -> None:
    ticks = Ticks()
    async with launched(sleep=ticks.sleep, silent_limit=2, arguments=("--load-in-loop",)) as worker:
        await worker.client.ping()
        loading = asyncio.create_task(worker.client.load(scripted_load(directory=ENDLESS)))
        await asyncio.sleep(0)

        await ticks.pass_by(10)

        assert not loading.done()
        loading.cancel()
        passing = asyncio.create_task(ticks.pass_by(10))
        await worker.ended()
        passing.cancel()
