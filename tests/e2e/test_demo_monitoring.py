"""`make demo-monitoring` as a user runs it: the tour checks itself, these tests check what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ("TemplateCampaign", "MassDuplicates", "RevokedTokenInUse", "ScopeProbing", "ForgedTokens", "TokenSharing")


@contextmanager
def started(directory: Path, *arguments: str, path: str = os.environ["PATH"]) -> Iterator[subprocess.Popen[str]]:
    """The demo, in the directory; what it writes comes through one pipe. It is told to end if a test fails."""
    sources = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", "tools.demo_monitoring", "--plain", *arguments],
        cwd=directory,
        env={**os.environ, "PATH": path, "PYTHONPATH": sources, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        try:
            yield demo
        finally:
            demo.terminate()


def read_until(demo: subprocess.Popen[str], words: str) -> str:
    """What it writes up to the first line with these words."""
    assert demo.stdout is not None
    lines: list[str] = []
    for line in demo.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    pytest.fail(f"it ended without {words!r}:\n{''.join(lines)}")


def addresses_in(text: str) -> list[tuple[str, int]]:
    """Where the server, Alertmanager and Prometheus listened."""
    return [
        ("127.0.0.1", int(port)) for port in re.findall(r"(?:calls|answers) on (?:http://)?127\.0\.0\.1:(\d+)", text)
    ]


def is_listening(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def processes_of(directory: Path) -> list[str]:
    """The command lines of processes that work on files of this directory, or in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if (process / "cwd").resolve().is_relative_to(directory) or str(directory) in line:
                found.append(line)
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def test_the_tour_is_as_narrated_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with started(tmp_path) as demo:
        written, _ = demo.communicate()

    assert demo.returncode == 0, written
    assert "Everything was as narrated." in written
    assert [alert for alert in ALERTS if f"Prometheus: {alert} fires" not in written] == []
    assert "Alertmanager tells partner-care-pages: bulk-letters " in written
    assert len(addresses_in(written)) == 3
    assert not [address for address in addresses_in(written) if is_listening(address)]
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["demo-xs is loaded", "Alertmanager answers on", "fires (page)"])
def test_ctrl_c_at_any_time_takes_everything_down(tmp_path: Path, words: str) -> None:
    with started(tmp_path) as demo:
        written = read_until(demo, words)

        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate()

    assert demo.returncode == 130, rest
    assert "Ended early; everything is stopped." in rest
    assert not [address for address in addresses_in(written + rest) if is_listening(address)]
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_with_keep_all_stays_until_ctrl_c(tmp_path: Path) -> None:
    with started(tmp_path, "--keep") as demo:
        written = read_until(demo, "sluicegate watch ")
        pages = re.findall(r"http://127\.0\.0\.1:\d+/(?:metrics)?(?=\s)", written)
        answers = [httpx.get(page, trust_env=False, follow_redirects=True).status_code for page in pages]

        kept = processes_of(tmp_path)
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate()

    assert [name for name in ("sluicegate", "prometheus", "alertmanager") if name not in " ".join(kept)] == []
    assert len(answers) >= 3
    assert set(answers) == {200}
    assert demo.returncode == 0, rest
    assert "Everything was as narrated." in rest
    assert processes_of(tmp_path) == []


def test_without_prometheus_it_says_what_to_install(tmp_path: Path) -> None:
    with started(tmp_path, path=str(tmp_path)) as demo:
        written, _ = demo.communicate()

    assert demo.returncode == 1
    assert "as root: apt-get install --no-install-recommends prometheus prometheus-alertmanager" in written
    assert list(tmp_path.iterdir()) == []
