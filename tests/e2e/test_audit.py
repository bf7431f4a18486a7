"""The audit log of a real server: verified by the command line, killed with it, and on a disk that is full."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audit_logs import entries, files
from deployment import DEMO, LAB_APP, Deployment
from reading import Read, start_reading
from real_server import COMMAND, RealServer, real_server, starting_server, until
from redis_server import RedisServer, redis_server

from sluicegate.auth import read_signing_key
from sluicegate.client import AccessDenied, Client, GenerationConfig, Unavailable
from sluicegate.server.audit.entries import Closing, Interrupted, Opening, Outage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BRIEF = GenerationConfig(max_output_tokens=20)
FILLED_BYTES = 40_000
"""So large that the server's own output, a file too, stays smaller while the disk is full."""


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path / "files", {name: DEMO[name] for name in ("demo-xs", "demo-s")})


def log_of(deployment: Deployment) -> Path:
    return deployment.directory / "audit"


def state_of(deployment: Deployment) -> str:
    return f"sqlite:///{deployment.directory}/sluicegate-state.db"


def audit(deployment: Deployment, command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`sluicegate audit …` on the server's log."""
    return subprocess.run(
        [COMMAND, "audit", command, log_of(deployment), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )


def verified(deployment: Deployment, state: str | None = None) -> dict[str, Any]:
    """The report of a log that must be good: against the known key, and the head in the state store."""
    key = str(read_signing_key(deployment.directory / "audit.jwk").public_jwk()["x"])
    options = ("--public-key", key, "--state", state or state_of(deployment), "--json")
    result = audit(deployment, "verify", *options)
    assert result.returncode == 0, result.stdout + result.stderr
    [report] = json.loads(result.stdout)["logs"]
    assert (report["is_anchored"], report["is_key_given"]) == (True, True)
    found: dict[str, Any] = report
    return found


async def test_a_log_verifies_shows_and_reconciles(deployment: Deployment, tmp_path: Path) -> None:
    with real_server(deployment) as server:
        async with (
            Client(server.address, token=server.token()) as public,
            Client(server.address, token=server.token(LAB_APP)) as partner,
        ):
            generations = [await public.generate("demo-xs", "It was", BRIEF) for _ in range(5)]
            generations += [await partner.generate("demo-s", "It was", BRIEF) for _ in range(5)]
            with pytest.raises(AccessDenied):
                await public.generate("demo-s", "It was", BRIEF)
            counted = server.metric("sluicegate_tokens_total", direction="output")
    report = verified(deployment)

    shown = audit(deployment, "show", "--partner", "example-lab")
    exported = audit(deployment, "export", "--output", tmp_path / "calls.csv", "--state", state_of(deployment))

    emitted = sum(entry.emitted_tokens for entry in entries(log_of(deployment)) if isinstance(entry, Closing))
    assert emitted == counted == sum(generation.usage.output_tokens for generation in generations) > 0
    assert report["open_calls"] == 0
    assert (shown.returncode, len(shown.stdout.splitlines())) == (0, 10)
    assert (exported.returncode, "MODEL_NOT_RELEASED" in (tmp_path / "calls.csv").read_text()) == (0, True)


async def test_a_changed_and_a_shortened_log_are_found_and_not_gone_on_with(deployment: Deployment) -> None:
    with real_server(deployment) as server:
        async with Client(server.address, token=server.token()) as client:
            await client.generate("demo-xs", "It was", BRIEF)
    verified(deployment)
    [path] = files(log_of(deployment))
    good = path.read_bytes()

    path.write_bytes(good.replace(b'"emitted_tokens":20', b'"emitted_tokens":10'))
    changed = audit(deployment, "verify")
    path.write_bytes(b"".join(good.splitlines(keepends=True)[:-2]))
    cut = audit(deployment, "verify", "--state", state_of(deployment))
    with starting_server(deployment) as refused:
        status = await asyncio.to_thread(refused.wait)

    assert (changed.returncode, "[changed]" in changed.stderr) == (1, True)
    assert (cut.returncode, "[truncated]" in cut.stderr) == (1, True)
    assert (status, "it lacks" in refused.log) == (1, True)


async def read_until_killed(server: RealServer, streams: int) -> list[Read]:
    """Streams of a server that is killed as soon as each of them has had a token."""
    async with Client(server.address, token=server.token()) as client:
        reads = [start_reading(client, "demo-xs", tokens=900, seed=seed) for seed in range(streams)]
        await asyncio.gather(*(read.begun.wait() for read in reads))
        server.signal(signal.SIGKILL)
        await asyncio.gather(*(read.ended() for read in reads))
    return reads


async def test_what_a_kill_left_open_is_closed_by_the_next_start(deployment: Deployment) -> None:
    with real_server(deployment) as server:
        reads = await read_until_killed(server, streams=4)
    with real_server(deployment):
        pass

    report = verified(deployment)
    found = entries(log_of(deployment))
    opened = {entry.call: entry.reserved_tokens for entry in found if isinstance(entry, Opening)}
    interrupted = {entry.call for entry in found if isinstance(entry, Interrupted)}
    assert report["open_calls"] == 0
    assert len(opened) == len(interrupted) == 4
    assert all(0 < len(read.tokens) <= 900 == reserved for read, reserved in zip(reads, opened.values(), strict=True))


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


async def test_a_full_disk_refuses_calls_and_corrupts_nothing(deployment: Deployment, state: RedisServer) -> None:
    def limit(size: int) -> None:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    with real_server(deployment, "--state", state.url()) as server:
        token = server.token(LAB_APP)
        async with Client(server.address, token=token, retry=False) as client:
            while sum(path.stat().st_size for path in files(log_of(deployment))) < FILLED_BYTES:
                await client.generate("demo-s", "It was", BRIEF)
            served_before = server.metric("sluicegate_tokens_total", direction="output")
            limit(files(log_of(deployment))[-1].stat().st_size + 10)

            reasons = set()
            for _ in range(20):
                with pytest.raises(Unavailable) as refused:
                    await client.generate("demo-s", "It was", BRIEF)
                reasons.add(refused.value.reason)
            served_on_a_full_disk = server.metric("sluicegate_tokens_total", direction="output")
            limit(resource.RLIM_INFINITY)

            async def serves() -> bool:
                try:
                    await client.generate("demo-s", "It was", BRIEF)
                except Unavailable:
                    return False
                return True

            await until("it serves again", serves)
    assert reasons == {"AUDIT_UNAVAILABLE"}
    assert served_on_a_full_disk == served_before
    verified(deployment, state.url())
    assert any(isinstance(entry, Outage) for entry in entries(log_of(deployment)))
