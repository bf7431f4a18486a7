"""The audit log under load: a server that is killed again and again, and a million calls of strangers."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from audit_logs import entries, files
from deployment import DEMO_MODELS, Deployment, Hosted
from real_server import COMMAND, RealServer, real_server

from sluicegate.auth import read_signing_key
from sluicegate.client import CallError, Client, Delta, GenerationConfig, Started, StreamOptions
from sluicegate.server.audit.entries import Closing, Denials, Interrupted, Opening

Show = Callable[[str], None]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3_600)]

KILLS, AT_ONCE = 20, 24
STRANGERS, CHANNELS, IN_FLIGHT = 1_000_000, 4, 64
SEED = 20_260_203


def log_of(deployment: Deployment) -> Path:
    return deployment.directory / "audit"


def verify(deployment: Deployment) -> dict[str, object]:
    """The report of a log that must be good: against the known key, and the head in the state store."""
    key = str(read_signing_key(deployment.directory / "audit.jwk").public_jwk()["x"])
    state = f"sqlite:///{deployment.directory}/sluicegate-state.db"
    options = ("--public-key", key, "--state", state, "--json")
    result = subprocess.run(
        [COMMAND, "audit", "verify", log_of(deployment), *options], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    [report] = json.loads(result.stdout)["logs"]
    assert report["is_anchored"]
    found: dict[str, object] = report
    return found


async def load_until_killed(server: RealServer, draws: random.Random, held: dict[str, int]) -> None:
    """Streams on all slots and more, until the server is killed at a random time; `held`: tokens seen by request id."""

    async def caller(client: Client) -> None:
        while server.is_running:
            config = GenerationConfig(max_output_tokens=draws.randint(1, 200), seed=draws.getrandbits(32))
            options = StreamOptions(include_tokens=True)
            request_id = ""
            try:
                async with client.stream("demo-xs", "It was", config, options=options) as stream:
                    async for event in stream:
                        if isinstance(event, Started):
                            request_id = event.request_id
                        elif isinstance(event, Delta):
                            held[request_id] = held.get(request_id, 0) + len(event.tokens)
            except CallError:
                return

    async with Client(server.address, token=server.token()) as client:
        callers = [asyncio.create_task(caller(client)) for _ in range(AT_ONCE)]
        await asyncio.sleep(draws.uniform(0.5, 3))
        server.signal(signal.SIGKILL)
        await asyncio.gather(*callers)


async def test_a_server_that_is_killed_again_and_again_leaves_a_log_that_holds(tmp_path: Path, show: Show) -> None:
    deployment = Deployment(tmp_path / "files", {"demo-xs": Hosted(directory=DEMO_MODELS / "demo-xs", slots=8)})
    draws, held = random.Random(SEED), dict[str, int]()
    for _ in range(KILLS):
        with real_server(deployment) as server:
            await load_until_killed(server, draws, held)
    with real_server(deployment):
        verify(deployment)

    report, found = verify(deployment), entries(log_of(deployment))
    openings = {entry.call: entry for entry in found if isinstance(entry, Opening)}
    closings = {entry.call: entry for entry in found if isinstance(entry, Closing)}
    interrupted = {entry.call for entry in found if isinstance(entry, Interrupted)}
    assert report["open_calls"] == 0
    assert openings.keys() == closings.keys() | interrupted
    assert not closings.keys() & interrupted
    for call, tokens in held.items():
        assert tokens <= openings[call].reserved_tokens
        if call in closings:
            assert tokens <= closings[call].emitted_tokens
    show(
        f"{KILLS} kills: {len(openings)} openings, {len(closings)} closings, {len(interrupted)} interrupted, "
        f"{sum(held.values()):,} tokens held by {len(held)} calls, none without its opening; the log verifies"
    )


async def test_strangers_add_a_line_a_minute(tmp_path: Path, show: Show) -> None:
    models = {"demo-xs": Hosted(directory=DEMO_MODELS / "demo-xs", slots=8)}
    limits = {"peer_calls_per_minute": 10_000_000, "denials_per_minute": 120}
    deployment = Deployment(tmp_path / "files", models, limits=limits, log={"level": "info", "format": "json"})
    with real_server(deployment) as server:
        before, begun = len(entries(log_of(deployment))), time.monotonic()
        await asyncio.gather(*(strangers(server.address, STRANGERS // CHANNELS) for _ in range(CHANNELS)))
        seconds = time.monotonic() - begun
    verify(deployment)

    found = entries(log_of(deployment))
    counted = sum(sum(entry.counts.values()) for entry in found if isinstance(entry, Denials))
    minutes = sum(isinstance(entry, Denials) for entry in found)
    size = sum(path.stat().st_size for path in files(log_of(deployment)))
    assert counted == STRANGERS
    assert not any(isinstance(entry, Opening) for entry in found)
    assert minutes <= seconds / 60 + 2
    more = len(found) - before
    show(f"{STRANGERS:,} calls in {seconds:.0f} s: {more} entries more, {minutes} of them counts; {size:,} bytes")


async def strangers(address: str, calls: int) -> None:
    """Calls without a token."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        method: Any = channel.unary_unary("/sluicegate.v1.GenerationService/Generate")
        left = iter(range(calls))

        async def work() -> None:
            for _ in left:
                call = method(b"")
                assert await call.code() is grpc.StatusCode.UNAUTHENTICATED

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
