"""kill -9: of an engine process, and of the front end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import Deployment, Hosted
from health import NOT_SERVING, SERVING, watched
from reading import start_reading
from real_server import RealServer, is_alive, real_server, wait_for
from slow_model import write_slow_model

from sluicegate.client import Client, FinishReason, GenerationConfig, Unavailable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TOKENS = 2_000
LONGEST_WAIT = 120.0  # for a restart on a busy machine
NOTICED_WITHIN = 20.0  # a second at rest; what counts here is that nobody waits for the end of the stream


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    """Two models on two devices, hence in two processes."""
    directory = write_slow_model(tmp_path / "slow")
    models = {
        "slow-cpu": Hosted(directory=directory, device="cpu"),
        "slow-auto": Hosted(directory=directory, device="auto"),
    }
    with real_server(Deployment(tmp_path / "files", models)) as running:
        yield running


async def test_a_lost_engine_ends_its_own_streams_only_and_comes_back(server: RealServer) -> None:
    token = server.token()
    async with (
        Client(server.address, token=token) as client,
        watched(server.address, "models/slow-cpu", token) as cpu_health,
        watched(server.address, "models/slow-auto", token) as auto_health,
    ):
        health = {"slow-cpu": cpu_health, "slow-auto": auto_health}
        reads = {model: [start_reading(client, model, tokens=TOKENS, seed=seed) for seed in (1, 2)] for model in health}
        running = [read for streams in reads.values() for read in streams]
        await asyncio.gather(*(read.begun.wait() for read in running))
        killed, other = server.engine_pids()

        os.kill(killed, signal.SIGKILL)

        tasks = [read.task for read in running if read.task]
        ended, _ = await asyncio.wait(tasks, timeout=NOTICED_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        assert ended
        lost = "slow-cpu" if any(read.task in ended for read in reads["slow-cpu"]) else "slow-auto"
        kept = next(model for model in health if model != lost)
        async with asyncio.timeout(NOTICED_WITHIN):
            await asyncio.gather(*(read.ended() for read in reads[lost]))
        for read in reads[lost]:
            assert isinstance(read.error, Unavailable)
            assert read.error.reason == "ENGINE_LOST"
            assert read.usage is not None
            assert 0 < read.usage.output_tokens == len(read.tokens) < TOKENS
        assert not any(task.done() for read in reads[kept] if (task := read.task))

        async with asyncio.timeout(LONGEST_WAIT):
            await health[lost].reach(SERVING, NOT_SERVING, SERVING)
        again = await client.generate(lost, "It was", GenerationConfig(max_output_tokens=5, ignore_eos=True))
        assert again.candidates[0].output_tokens == 5
        assert other in server.engine_pids()
        assert len(server.engine_pids()) == 2
        assert server.metric("sluicegate_engine_restarts_total") == 1
        assert server.metric("sluicegate_streams_terminated_total", cause="ENGINE_LOST", model=lost) == 2

        await asyncio.gather(*(read.ended() for read in reads[kept]))
        undisturbed = [start_reading(client, kept, tokens=TOKENS, seed=seed) for seed in (1, 2)]
        await asyncio.gather(*(read.ended() for read in undisturbed))
        assert [read.finishes for read in reads[kept]] == [[FinishReason.MAX_OUTPUT_TOKENS]] * 2
        assert [read.tokens for read in reads[kept]] == [read.tokens for read in undisturbed]
        assert health[kept].statuses == [SERVING]


async def test_engines_end_by_themselves_when_the_front_end_is_killed(server: RealServer) -> None:
    engines = server.engine_pids()
    sockets = [_socket(pid) for pid in engines]
    assert len(engines) == 2
    assert all(socket.exists() for socket in sockets)
    async with Client(server.address, token=server.token()) as client:
        reads = [start_reading(client, model, tokens=TOKENS) for model in ("slow-cpu", "slow-auto")]
        await asyncio.gather(*(read.begun.wait() for read in reads))

        server.signal(signal.SIGKILL)

        assert server.wait() == -signal.SIGKILL
        wait_for("engines gone", lambda: not any(map(is_alive, engines)))
        await asyncio.gather(*(read.ended() for read in reads))
        assert all(isinstance(read.error, Unavailable) for read in reads)
        assert not any(socket.parent.exists() for socket in sockets)


def _socket(pid: int) -> Path:
    """The socket at which an engine process listens."""
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return Path(arguments[arguments.index("--address") + 1].removeprefix("ipc://"))
