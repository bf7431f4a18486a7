"""`sluicegate engine` on a real server: an operator looks into a replica, and takes it out of service."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deployment import DEMO_MODELS, Deployment, Hosted
from health import NOT_SERVING, SERVING, watched
from reading import start_reading
from real_server import COMMAND, RealServer, real_server
from slow_model import write_slow_model

from sluicegate.client import Client, FinishReason, Generation, GenerationConfig, ModelState, Unavailable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

OPERATORS = {"listen": "127.0.0.1:0"}
SECONDS = 60
TOKENS = 1_000
ORDERS = ("engine:read", "engine:manage")


class Operator:
    """Runs `sluicegate engine` as an operator's shell would."""

    def __init__(self, server: RealServer, directory: Path) -> None:
        token = directory / "operator.token"
        token.write_text(server.token("operations", scopes=ORDERS))
        address = server.events("serving")[0]["operators"]
        self._environment = {**os.environ, "SLUICEGATE_TARGET": address, "SLUICEGATE_TOKEN_FILE": str(token)}

    async def run(self, *arguments: str) -> Any:
        """What the command prints with --json; it must end well."""
        done = await asyncio.to_thread(
            subprocess.run,
            [str(COMMAND), "engine", *arguments, "--json"],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


async def test_an_operator_watches_a_stream_and_drains_the_replica_which_ends_well(tmp_path: Path) -> None:
    models = {"slow": Hosted(directory=write_slow_model(tmp_path / "slow"), slots=2)}
    drain = {"announce_seconds": 0.2, "grace_seconds": 200}
    with real_server(Deployment(tmp_path / "files", models, operators=OPERATORS, drain=drain)) as server:
        operator = Operator(server, tmp_path)
        async with Client(server.address, token=server.token()) as client, watched(server.address, "") as health:
            read = start_reading(client, "slow", tokens=TOKENS, seed=1)
            await read.begun.wait()

            (engine,) = await operator.run("load")
            (active,) = await operator.run("requests")
            plan = await operator.run("drain", "--justification", "New kernel.")
            await health.reach(SERVING, NOT_SERVING)
            await read.ended()
            status = await asyncio.to_thread(server.wait)

    assert (engine["alive"], engine["models"][0]["running_sequences"]) == (True, 1)
    assert (active["model"], active["state"], active["client_id"]) == ("slow", "RUNNING", "app")
    assert plan == {"announce_seconds": 0.2, "grace_seconds": 200.0, "active_requests": 1}
    assert (read.finishes, len(read.tokens)) == ([FinishReason.MAX_OUTPUT_TOKENS], TOKENS)
    assert status == 0


async def test_a_model_is_unloaded_and_loaded_while_another_streams_undisturbed(tmp_path: Path) -> None:
    models = {
        "demo-xs": Hosted(directory=DEMO_MODELS / "demo-xs"),
        "slow": Hosted(directory=write_slow_model(tmp_path / "slow"), slots=2),
    }
    with real_server(Deployment(tmp_path / "files", models, operators=OPERATORS)) as server:
        operator, token = server.token("operations", scopes=ORDERS), server.token()
        address = server.events("serving")[0]["operators"]
        async with (
            Client(server.address, token=token, retry=False) as client,
            Client(address, token=operator) as operators,
        ):
            alone = start_reading(client, "slow", tokens=TOKENS, seed=1)
            await alone.ended()
            beside = start_reading(client, "slow", tokens=TOKENS, seed=1)
            await beside.begun.wait()

            out = await operators.engine.unload_model("demo-xs", "Room.", grace_seconds=0)
            with pytest.raises(Unavailable) as refused:
                await generated(client)
            back = await operators.engine.load_model("demo-xs", "Needed again.")
            served = await generated(client)
            was_running = beside.usage is None
            await beside.ended()

    assert (out.state, back.state) == (ModelState.UNAVAILABLE, ModelState.READY)
    assert refused.value.reason == "MODEL_NOT_READY"
    assert served.usage.output_tokens == 5
    assert (was_running, len(beside.tokens)) == (True, TOKENS)
    assert beside.tokens == alone.tokens
    assert server.events("engine_lost") == []


async def generated(client: Client) -> Generation:
    config = GenerationConfig(max_output_tokens=5, ignore_eos=True)
    return await client.generate("demo-xs", "The", config)
