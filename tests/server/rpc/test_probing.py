"""`sluicegate health`: a server is asked on its port for probes, as a container's health check asks it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import typer
from harness import serving, write_server
from typer.testing import CliRunner, Result

from sluicegate.server.commands import health
from sluicegate.server.settings_file import SETTINGS_FILE_VARIABLE

PROBES = {"listen": "127.0.0.1:0"}

app = typer.Typer()
app.command()(health)


async def asked(*arguments: object) -> Result:
    """The command's outcome, while servers of this event loop answer."""
    return await asyncio.to_thread(CliRunner().invoke, app, [str(each) for each in arguments])


async def test_a_server_that_serves_is_told_by_the_exit_code(tmp_path: Path) -> None:
    async with serving(tmp_path, health=PROBES) as server:
        address = server.running.health_address

        result = await asked(address, "--service=models")

    assert (result.exit_code, result.stdout) == (0, f"{address}: SERVING\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_without_an_address_the_settings_say_where_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    async with serving(tmp_path / "server", health=PROBES) as server:
        port = str(server.running.health_address).rpartition(":")[2]
        settings = write_server(tmp_path / "settings", health={"listen": f"{host}:{port}"})
        monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(settings))

        result = await asked()

    assert (result.exit_code, result.stdout) == (0, f"127.0.0.1:{port}: SERVING\n")


async def test_a_draining_server_fails_the_check(tmp_path: Path) -> None:
    async with serving(tmp_path, health=PROBES, drain={"announce_seconds": 300}) as server:
        hurry = asyncio.Event()
        draining = asyncio.create_task(server.running.draining.drain(hurry))
        await asyncio.sleep(0)

        result = await asked(server.running.health_address)

        hurry.set()
        await draining
    assert result.exit_code == 1
    assert result.stdout.endswith(": NOT_SERVING\n")


@pytest.mark.parametrize(("address", "service"), [("127.0.0.1:9", ""), (None, "models/gpt2-124m")])
async def test_what_gets_no_answer_fails_the_check_and_is_said(
    tmp_path: Path, address: str | None, service: str
) -> None:
    async with serving(tmp_path, health=PROBES) as server:
        place = address or server.running.health_address

        result = await asked(place, "--wait=0.5", f"--service={service}")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"sluicegate: {place} does not say whether it serves (")


async def test_settings_without_a_port_for_probes_are_told(tmp_path: Path) -> None:
    result = await asked("--config", write_server(tmp_path))

    assert result.exit_code == 1
    assert result.stderr == (
        "sluicegate: health.listen: is not set, so no port answers probes; set it, or give HOST:PORT\n"
    )
