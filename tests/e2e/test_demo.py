"""`sluicegate demo` as a user runs it: the tour checks itself, these tests check what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from foreign import GRPCURL

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PROGRAM = Path(sys.executable).with_name("sluicegate")


@contextmanager
def started(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, in the directory; what it writes comes through one pipe. It is told to end if a test fails."""
    with subprocess.Popen(
        [PROGRAM, "demo", "--plain", *arguments],
        cwd=directory,
        env={**os.environ, "PATH": f"{GRPCURL.parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"},
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


def address_in(text: str) -> tuple[str, int]:
    _, _, rest = text.partition("It takes calls on ")
    host, _, port = rest.split()[0].rpartition(":")
    return host, int(port)


def port_of(listener: socket.socket) -> str:
    return str(listener.getsockname()[1])


def is_listening(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def secrets_in(directory: Path) -> list[str]:
    return [path.read_text().strip() for path in (directory / ".demo/tokens").iterdir()]


def test_the_tour_is_as_narrated_and_tells_no_token(tmp_path: Path) -> None:
    with started(tmp_path) as demo:
        written, _ = demo.communicate()

    log = (tmp_path / ".demo/server.log").read_text()
    assert demo.returncode == 0, written
    assert "Everything was as narrated." in written
    assert "sluicegate.v1.GenerationService\n" in written, "grpcurl was not tried"
    assert not is_listening(address_in(written))
    assert not [secret for secret in secrets_in(tmp_path) if secret in written or secret in log]
    assert '"event": "drained"' in log


def test_ctrl_c_in_the_tour_takes_everything_down(tmp_path: Path) -> None:
    with started(tmp_path) as demo:
        address = address_in(read_until(demo, "It takes calls on "))

        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate()

    assert demo.returncode == 130
    assert "Ended early; the server is stopped." in rest
    assert not is_listening(address)


def test_with_keep_the_server_stays_until_ctrl_c(tmp_path: Path) -> None:
    with started(tmp_path, "--keep") as demo:
        address = address_in(read_until(demo, "It takes calls on "))
        read_until(demo, "New ones:")
        is_kept = is_listening(address)

        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate()

    assert is_kept
    assert demo.returncode == 0
    assert "Everything was as narrated." in rest
    assert not is_listening(address)


def test_a_port_in_use_is_told_with_the_end_of_the_log(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, started(tmp_path, "--port", port_of(taken)) as demo:
        written, _ = demo.communicate()

    assert demo.returncode == 1
    assert "cannot listen on 127.0.0.1" in written
    assert "RuntimeWarning" not in written
