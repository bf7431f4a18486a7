"""`make demo-release` as a user runs it: the tour checks itself, these tests check what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def started(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, in the directory; what it writes comes through one pipe. It is told to end if a test fails."""
    sources = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", "tools.demo_release", "--plain", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": sources, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        try:
            yield demo
        finally:
            demo.terminate()


def test_the_story_is_as_narrated_and_its_report_has_it(tmp_path: Path) -> None:
    with started(tmp_path, "--keep") as demo:
        written, _ = demo.communicate()

    assert demo.returncode == 0, written
    assert "Everything was as narrated." in written
    for text in (
        "3 of 3 requirements are not met",
        "2 different signers must",
        "s3 is active in release.yaml, signed by release-lead, safety-lead",
        "an accepted finding of high or critical severity stands against demo-m",
        "ended with STAGE_CHANGED, ",
    ):
        assert text in written
    report = (tmp_path / ".demo-release/report/report.md").read_text()
    assert "bias of demo\\-m, occupations" in report
    assert not list((tmp_path / ".demo-release/policy").glob("pending-*"))


def test_ctrl_c_takes_everything_down(tmp_path: Path) -> None:
    with started(tmp_path) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "demo-xs is loaded" in line:
                break
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate()

    assert demo.returncode == 130, rest
    assert "Ended early; the server is stopped." in rest
    assert list(tmp_path.iterdir()) == []
