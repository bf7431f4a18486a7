"""An auditor looks at the plan and asks what another policy would change: with the command line, and with grpcurl."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deployment import LAB_APP
from foreign import GRPCURL, bearer, json_values, run
from real_server import RealServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SERVICE = "sluicegate.v1.ReleaseService"
COMMAND = Path(sys.executable).with_name("sluicegate")


def auditor(server: RealServer) -> str:
    return server.token(scopes=("release:read",))


def sluicegate(server: RealServer, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLUICEGATE_TARGET": server.address, "SLUICEGATE_TOKEN": auditor(server)}
    return subprocess.run(
        [COMMAND, *arguments], check=False, capture_output=True, text=True, env=environment, timeout=60
    )


def ask(server: RealServer, method: str, request: dict[str, Any]) -> dict[str, Any]:
    arguments = ("-H", bearer(auditor(server)), "-d", json.dumps(request), server.address, f"{SERVICE}/{method}")
    done = run(GRPCURL, "-plaintext", *arguments)
    assert done.returncode == 0, done.stderr
    (answer,) = json_values(done.stdout)
    return dict(answer)


@pytest.fixture
def later(server: RealServer, tmp_path: Path) -> Path:
    """The server's policy at its last stage, with the partner's agreement suspended."""
    copy = Path(shutil.copytree(server.deployment.release_file.parent, tmp_path / "later"))
    release, agreement = copy / "release.yaml", copy / "agreements/example-lab.yaml"
    release.write_text(release.read_text().replace("active: first", "active: last"))
    agreement.write_text(agreement.read_text().replace("status: active", "status: suspended"))
    return copy


def test_the_plan_is_shown_to_people_and_to_programs(server: RealServer) -> None:
    words = sluicegate(server, "release", "plan")
    data = ask(server, "GetReleasePlan", {})["plan"]

    assert (words.returncode, words.stderr) == (0, "")
    assert ["demo-s", "partner", "public", "partner"] in [line.split() for line in words.stdout.splitlines()]
    assert (data["activeStage"], data["stageInForce"]["id"]) == ("first", "first")
    assert [stage["id"] for stage in data["stages"]] == ["first", "last"]
    assert ask(server, "ListStageTransitions", {}) == {}
    assert sluicegate(server, "release", "transitions").stdout == "no transition is recorded\n"


def test_a_policy_is_simulated_and_nothing_of_it_comes_into_force(server: RealServer, later: Path) -> None:
    before = ask(server, "GetReleasePlan", {})

    result = sluicegate(server, "release", "simulate", later)
    same = sluicegate(server, "release", "simulate", server.deployment.release_file.parent)

    assert (result.returncode, result.stderr) == (1, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert "opens stage in force: first -> last".split() in rows  # noqa: SIM905
    gained = "gained everybody else with a token generate demo-s public MODEL_NOT_RELEASED"
    assert gained.split() in rows
    assert "calls on record: " in result.stdout
    assert (same.returncode, same.stdout.partition("\n")[0]) == (0, "No difference.")
    assert ask(server, "GetReleasePlan", {}) == before


def test_grpcurl_can_ask_too(server: RealServer, later: Path) -> None:
    files = [
        {"name": path.relative_to(later).as_posix(), "content": base64.b64encode(path.read_bytes()).decode()}
        for path in sorted(later.rglob("*.yaml"))
    ]

    answer = ask(server, "SimulatePolicy", {"files": files})

    assert answer["opensWider"]
    assert answer["replayState"] == "REPLAY_STATE_COMPLETE"
    assert {(each["shift"], each["model"]) for each in answer["accessChanges"]} >= {("ACCESS_SHIFT_GAINED", "demo-s")}


def test_a_bad_policy_is_told_with_its_files(server: RealServer, later: Path) -> None:
    (later / "release.yaml").write_text("active: [")

    result = sluicegate(server, "release", "simulate", later)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("release.yaml: line 1: ")
    assert "the server would keep the policy that it has" in result.stderr


def test_a_partner_learns_nothing_of_the_plan(server: RealServer) -> None:
    arguments = ("-H", bearer(server.token(LAB_APP)), server.address, f"{SERVICE}/GetReleasePlan")

    refused = run(GRPCURL, "-plaintext", "-format-error", *arguments)

    (status,) = json_values(refused.stderr)
    assert [detail.get("reason") for detail in status["details"]] == ["SCOPE_MISSING", None]
