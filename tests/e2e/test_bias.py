"""The bias evaluation by the command line, on two demo models of a server process."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from deployment import EVAL_TEAM
from real_server import COMMAND, RealServer

from sluicegate.evidence import BiasEvidence, digest, read

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SECONDS = 240


def bias(server: RealServer, folder: Path, *arguments: str) -> tuple[BiasEvidence, str]:
    """The evidence on demo-s, and its digest as the command told it."""
    scopes = ("score:demo-s", "logprobs:demo-s", "score:demo-xs", "logprobs:demo-xs")
    environment = {**os.environ, "SLUICEGATE_TOKEN": server.token(EVAL_TEAM, scopes=scopes)}
    done = subprocess.run(
        [COMMAND, "bias", "run", "--model", "demo-s", "--output", folder, "--target", server.address, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    evidence, sha256 = read(folder / "demo-s.json", BiasEvidence)
    assert done.stdout.endswith(f"sha256 {sha256}\n")
    return evidence, done.stdout


def test_two_demo_models_are_measured_and_compared_and_it_repeats_to_the_digit(
    server: RealServer, tmp_path: Path
) -> None:
    first, shown = bias(server, tmp_path / "first", "--against", "demo-xs")
    second, _ = bias(server, tmp_path / "second", "--concurrency", "3")

    assert (first.pairs, first.figures, first.subject) == (second.pairs, second.figures, second.subject)
    assert first.figures.share is not None
    assert 0.4 < first.figures.share < 0.7
    assert first.comparison is not None
    assert first.comparison.model == "demo-xs"
    assert first.comparison.evidence_sha256 == digest((tmp_path / "first/demo-xs.json").read_bytes())
    assert "exact McNemar p = " in shown
