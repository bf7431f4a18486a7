"""The listener of probes: plaintext beside TLS, and nothing on it but whether server and models serve."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import (
    LONG_SECONDS,
    SMALL,
    Engine,
    bearer,
    connected,
    demo_plan,
    serving,
    tls_credentials,
    tls_settings,
    until,
)

from sluicegate.server.engine.messages import Load
from sluicegate.server.engine.runner import Runner
from sluicegate.server.errors import SettingsError

SERVING, NOT_SERVING = 1, 2
PROBES = {"listen": "127.0.0.1:0"}


async def probed(address: str | None, service: str = "") -> int:
    """The status that a probe hears."""
    assert address is not None
    async with connected(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its type stubs know no method
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=LONG_SECONDS)
        status: int = answer.status
        return status


async def test_a_probe_without_tls_is_answered_beside_callers_who_must_show_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = tls_settings(authority, with_clients=True)
    credentials = tls_credentials(authority, "client.example")
    async with serving(tmp_path / "server", tls=tls, credentials=credentials, health=PROBES) as server:
        assert await probed(server.running.health_address) == SERVING


async def test_a_draining_server_tells_probes_until_it_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path, health=PROBES, drain={"announce_seconds": 300}) as server:
        hurry = asyncio.Event()
        draining = asyncio.create_task(server.running.draining.drain(hurry))
        await asyncio.sleep(0)

        assert await probed(server.running.health_address) == NOT_SERVING

        hurry.set()
        await draining
        assert await probed(server.running.health_address) == NOT_SERVING


async def test_a_lost_engine_is_told_to_who_asks_for_all_models(tmp_path: Path) -> None:
    loads: list[Load] = []
    may_load_again = threading.Event()

    def load(message: Load) -> Runner:
        loads.append(message)
        if len(loads) > 1:
            may_load_again.wait()
        return Engine().load(message)

    async with serving(tmp_path, health=PROBES, load=load) as server:
        address = server.running.health_address
        assert await probed(address, "models") == SERVING

        async def hears(status: int) -> bool:
            return await probed(address, "models") == status

        try:
            server.engine.lose()

            await until(lambda: hears(NOT_SERVING))
            assert await probed(address) == SERVING
        finally:
            may_load_again.set()
        await until(lambda: hears(SERVING))


async def test_what_a_policy_says_of_a_model_makes_no_replica_unready(tmp_path: Path) -> None:
    """Each replica would hear of it at once, and none would be left for the other models."""
    plan = demo_plan()
    plan["models"][SMALL]["weights_sha256"] = "11" * 32
    async with serving(tmp_path, health=PROBES) as server:
        watch = server.health.Watch(health_pb2.HealthCheckRequest(service=f"models/{SMALL}"), metadata=bearer())
        assert (await watch.read()).status == SERVING

        server.write_policy(plan)

        assert (await watch.read()).status == NOT_SERVING
        assert await probed(server.running.health_address, "models") == SERVING


@pytest.mark.parametrize("service", ["models/gpt2-124m", "sluicegate.v1.GenerationService"])
async def test_nothing_is_told_of_single_models_and_services(tmp_path: Path, service: str) -> None:
    async with serving(tmp_path, health=PROBES) as server:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await probed(server.running.health_address, service)

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "method",
    [
        "/grpc.health.v1.Health/Watch",
        "/grpc.health.v1.Health/List",
        "/sluicegate.v1.GenerationService/Generate",
        "/sluicegate.v1.ModelService/ListModels",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_no_other_method_is_there(tmp_path: Path, method: str) -> None:
    async with serving(tmp_path, health=PROBES) as server:
        assert server.running.health_address is not None
        async with connected(server.running.health_address) as channel:
            call: Any = channel.unary_unary(method)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"", metadata=bearer(), timeout=LONG_SECONDS)

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_there_is_no_such_listener_unless_it_is_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert server.running.health_address is None


async def test_a_port_in_use_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(SettingsError, match=f"health.listen: cannot listen on {address}"):
            async with serving(tmp_path, health={"listen": address}):
                pass
