"""The image, built by the Dockerfile's steps in a fresh Debian, serves: as its user, on a read-only file system."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from dockerfile import Instruction, stages
from image import Image, built
from real_server import wait_for
from redis_server import free_port

from sluicegate.server.gpt2.kernels.processor import usable_tiers

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3_600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a file system its own"),
]

FINAL = stages()[-1]
DATA = "/var/lib/sluicegate"
MODELS = "/opt/sluicegate/lib/python3.11/site-packages/sluicegate/server/demo/models"
SECONDS = 300


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    directory = tmp_path_factory.mktemp("image")
    try:
        yield built(directory)
    finally:
        shutil.rmtree(directory)  # gigabytes


def test_the_image_serves_as_its_user_on_a_read_only_file_system(image: Image, tmp_path: Path) -> None:
    made = image.run("sluicegate", "init", f"{DATA}/gate", f"--model=demo-xs={MODELS}/demo-xs")
    assert made.returncode == 0, made.stdout
    settings = image.root / f"{DATA}/gate/sluicegate.yaml".lstrip("/")
    ports = {"listen": f"127.0.0.1:{free_port()}", "metrics": {"listen": None}}
    listening = {**yaml.safe_load(settings.read_text()), **ports, "health": {"listen": f"127.0.0.1:{free_port()}"}}
    settings.write_text(yaml.safe_dump(listening))
    placed = replace(image, environment={**image.environment, "SLUICEGATE_CONFIG": f"{DATA}/gate/sluicegate.yaml"})
    check = Instruction("CMD", FINAL.one("HEALTHCHECK").text.partition("CMD ")[2]).words

    log = tmp_path / "server.log"
    with log.open("w") as output:
        server = placed.start(
            *FINAL.one("ENTRYPOINT").words, *FINAL.one("CMD").words, volume=DATA, stdout=output, stderr=output
        )
    try:
        wait_for(
            "healthy",
            lambda: server.poll() is not None or placed.run(*check, volume=DATA).returncode == 0,
            SECONDS,
        )
        assert server.poll() is None, log.read_text()
        assert placed.run(*check, "--service=models", volume=DATA).returncode == 0
        assert Path(f"/proc/{server.pid}").stat().st_uid == 10001
    finally:
        server.terminate()
        status = server.wait(SECONDS)

    assert status == 0, log.read_text()
    assert ("kernels_ready" in log.read_text()) is bool(usable_tiers())  # built ahead: there is no compiler


def test_the_image_holds_no_compiler_and_nothing_that_its_user_could_change(image: Image) -> None:
    found = image.run("sh", "-c", "command -v c++ g++ gcc; find /opt /usr /etc -xdev -writable ! -type l | head")

    assert found.stdout == ""


def test_the_image_knows_the_time_zones_of_agreements(image: Image) -> None:
    asked = image.run("python3", "-c", "from zoneinfo import ZoneInfo; print(ZoneInfo('America/St_Johns'))")

    assert (asked.returncode, asked.stdout) == (0, "America/St_Johns\n")
