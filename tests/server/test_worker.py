from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine_streams import ids, read, read_token, submission
from engine_worker import HANGS
from scripted_runner import ScriptedRunner, scripted_load

from sluicegate.server import worker
from sluicegate.server.engine.client import EngineClient
from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.messages import Load, Stop
from sluicegate.server.engine.runner import Runner
from sluicegate.server.engine.transport import DealerConnection
from sluicegate.server.gpt2 import loading


class Process:
    """An engine process that the test itself has started, without the object that usually holds it."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self.process = process
        self.directory = directory

    @asynccontextmanager
    async def connect(self, front_end: str) -> AsyncIterator[EngineClient]:
        connection = DealerConnection(f"ipc://{self.directory}/engine", front_end)
        client = EngineClient(connection.send)
        reading = asyncio.create_task(connection.receive_into(client.deliver))
        try:
            yield client
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            connection.close()

    def has_directory(self) -> bool:
        """Whether the directory of its socket is still there."""
        return self.directory.exists()

    def hang_up(self) -> None:
        """Close the process' standard input, as the front end's death would."""
        assert self.process.stdin is not None
        self.process.stdin.close()


@asynccontextmanager
async def started(directory: Path, module: str = "engine_worker") -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        "--address",
        f"ipc://{directory}/engine",
        stdin=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield Process(process, directory)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def open_to_others(directory: Path) -> Path:
    directory.chmod(0o755)
    return directory


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


async def test_stop_ends_the_process_in_order(directory: Path) -> None:
    async with started(directory) as engine, engine.connect("front") as client:
        await client.load(scripted_load())

        client.stop()

        assert await engine.process.wait() == 0


async def test_a_front_end_that_is_gone_ends_the_process_and_its_socket(directory: Path) -> None:
    async with started(directory) as engine, engine.connect("front") as client:
        await client.load(scripted_load())

        engine.hang_up()

        assert await engine.process.wait() == 0
        assert not engine.has_directory()


async def test_a_front_end_that_is_gone_ends_even_a_process_that_hangs(directory: Path) -> None:
    async with started(directory) as engine, engine.connect("front") as client:
        await client.load(scripted_load())
        stream = await client.submit(submission(prompt=(HANGS,)))
        await read_token(stream)

        engine.hang_up()

        assert await engine.process.wait() == 0
        assert not engine.has_directory()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_to_the_whole_group_leave_the_process_to_its_front_end(
    directory: Path, number: signal.Signals
) -> None:
    async with started(directory) as engine, engine.connect("front") as client:
        await client.load(scripted_load())

        engine.process.send_signal(number)

        await client.ping()
        assert len(ids(await read(await client.submit(submission())))) == 3
        client.stop()
        assert await engine.process.wait() == 0


async def test_a_directory_that_others_can_enter_ends_the_process_with_an_error(directory: Path) -> None:
    async with started(open_to_others(directory)) as engine:
        assert await engine.process.wait() == 1


async def test_several_front_ends_share_one_engine_and_one_that_leaves_frees_its_slots(directory: Path) -> None:
    async with started(directory) as engine, engine.connect("one") as one:
        async with engine.connect("two") as two:
            await asyncio.gather(one.load(scripted_load(slots=1)), two.load(scripted_load(slots=1)))
            await read_token(await two.submit(submission(tokens=1_000)))
            waiting = await one.submit(submission(tokens=5))

        assert len(ids(await read(waiting))) == 5
        one.send(Stop())
        assert await engine.process.wait() == 0


def test_the_garbage_collector_leaves_alone_what_the_first_load_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[int] = []
    models: list[list[list[int]]] = []

    def load_twice(_address: str, load: Callable[[Load], Runner], _start: object) -> int:
        for _ in range(2):
            load(scripted_load("gpt2-124m"))
        return 0

    def load_runner(message: Load, *, use_kernels: bool, use_graphs: bool) -> Runner:
        assert (use_kernels, use_graphs) == (True, True)
        frozen.append(gc.get_freeze_count())
        models.append([[] for _ in range(1_000)])
        return ScriptedRunner(slots=message.slots)

    monkeypatch.setattr(worker, "run_worker", load_twice)
    monkeypatch.setattr(loading, "load_runner", load_runner)
    monkeypatch.setattr(worker, "configure", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["worker", "--address", "ipc:///nowhere"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    try:
        assert worker.main() == 0
    finally:
        gc.unfreeze()

    assert frozen[0] > 10_000
    assert frozen[1] == frozen[0]  # what the first model is made of can be collected when it is unloaded


async def test_the_real_worker_says_what_is_wrong_with_a_model(directory: Path) -> None:
    async with started(directory, "sluicegate.server.worker") as engine, engine.connect("front") as client:
        with pytest.raises(ModelLoadError, match="absent is no directory"):
            await client.load(scripted_load("gpt2-124m", directory=str(directory / "absent")))

        client.stop()
        assert await engine.process.wait() == 0
