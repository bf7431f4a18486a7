"""SIGTERM: while streams run, a second time, and before the server is up."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from deployment import DEMO_MODELS, Deployment, Hosted
from health import NOT_SERVING, SERVING, watched
from reading import Read, start_reading
from real_server import is_alive, real_server, starting_server, until, wait_for
from slow_model import TOKENS, write_slow_model

from sluicegate.client import Client, FinishReason, Unavailable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SLOTS = 4


def deployment(directory: Path, **drain: float) -> Deployment:
    """A model whose streams last, and how its server stops."""
    models = {"slow": Hosted(directory=write_slow_model(directory / "slow"), slots=SLOTS)}
    return Deployment(directory / "files", models, drain=drain)


async def all_begun(reads: list[Read]) -> None:
    await asyncio.gather(*(read.begun.wait() for read in reads))


async def all_ended(reads: list[Read]) -> None:
    await asyncio.gather(*(read.ended() for read in reads))


def assert_cut_with_exact_usage(reads: list[Read]) -> None:
    for read in reads:
        assert isinstance(read.error, Unavailable)
        assert read.error.reason == "SERVER_DRAINING"
        assert read.usage is not None
        assert 0 < read.usage.output_tokens == len(read.tokens) < TOKENS


async def test_streams_that_run_and_wait_at_sigterm_reach_their_own_ends(tmp_path: Path) -> None:
    tokens = 1_000
    with real_server(deployment(tmp_path, announce_seconds=0.2, grace_seconds=200)) as server:
        async with Client(server.address, token=server.token()) as client, watched(server.address, "") as health:
            running = [start_reading(client, "slow", tokens=tokens, seed=seed) for seed in range(SLOTS)]
            await all_begun(running)
            waiting = [start_reading(client, "slow", tokens=tokens, seed=seed) for seed in range(SLOTS)]
            await until("all have arrived", lambda: server.metric("sluicegate_streams_active") == 2 * SLOTS)

            server.signal(signal.SIGTERM)

            await health.reach(SERVING, NOT_SERVING)
            await all_ended(running + waiting)
            status = await asyncio.to_thread(server.wait)

    assert [read.finishes for read in running + waiting] == [[FinishReason.MAX_OUTPUT_TOKENS]] * 2 * SLOTS
    assert [len(read.tokens) for read in running + waiting] == [tokens] * 2 * SLOTS
    assert status == 0


async def test_streams_are_cut_only_after_the_grace_period(tmp_path: Path) -> None:
    announce, grace = 0.5, 1.0
    with real_server(deployment(tmp_path, announce_seconds=announce, grace_seconds=grace)) as server:
        engines = server.engine_pids()
        async with Client(server.address, token=server.token()) as client:
            reads = [start_reading(client, "slow", tokens=TOKENS, seed=seed) for seed in range(SLOTS)]
            await all_begun(reads)
            asked = time.monotonic()

            server.signal(signal.SIGTERM)

            await asyncio.wait([read.task for read in reads if read.task], return_when=asyncio.FIRST_COMPLETED)
            first_cut = time.monotonic()
            await all_ended(reads)
            status = await asyncio.to_thread(server.wait)

    assert first_cut - asked >= announce + grace
    assert_cut_with_exact_usage(reads)
    assert status == 0
    assert not any(map(is_alive, engines))


async def test_a_second_sigterm_does_not_wait_for_the_grace_period(tmp_path: Path) -> None:
    with real_server(deployment(tmp_path, announce_seconds=300, grace_seconds=3_600)) as server:
        async with Client(server.address, token=server.token()) as client:
            reads = [start_reading(client, "slow", tokens=TOKENS, seed=seed) for seed in range(SLOTS)]
            await all_begun(reads)
            server.signal(signal.SIGTERM)
            await until("it drains", lambda: server.events("draining"))

            server.signal(signal.SIGTERM)

            await all_ended(reads)
            status = await asyncio.to_thread(server.wait)

    assert_cut_with_exact_usage(reads)
    assert status == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_model_loads_stops_the_server_at_once(tmp_path: Path, number: signal.Signals) -> None:
    directory = tmp_path / "endless"
    directory.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (directory / name).write_bytes((DEMO_MODELS / "demo-xs" / name).read_bytes())
    os.mkfifo(directory / "model.safetensors")  # whoever reads it waits for ever
    models = {"endless": Hosted(directory=directory)}

    with starting_server(Deployment(tmp_path / "files", models)) as process:
        engines = wait_for("an engine process", process.engine_pids)

        process.signal(number)

        assert process.wait() == 0
        wait_for("engine gone", lambda: not any(map(is_alive, engines)))
        assert not process.events("serving")
        assert "Traceback" not in process.log
