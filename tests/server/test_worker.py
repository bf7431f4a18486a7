from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine_streams import ids, read, read_token, submission
from engine_worker import HANGS
from scripted_runner import scripted_load

from sluicegate.server.engine.client import EngineClient
from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.messages import Stop
from sluicegate.server.engine.transport import DealerConnection


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


async def test_the_real_worker_says_what_is_wrong_with_a_model(directory: Path) -> None:
    async with started(directory, "sluicegate.server.worker") as engine, engine.connect("front") as client:
        with pytest.raises(ModelLoadError, match="absent is no directory"):
            await client.load(scripted_load("gpt2-124m", directory=str(directory / "absent")))

        client.stop()
        assert await engine.process.wait() == 0
