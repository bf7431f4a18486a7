"""Prometheus and Alertmanager as processes of the demo: found, started, waited for, and stopped with their context."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tools.demo_monitoring.errors import ProgramMissing, ProgramNotStarted

START_SECONDS = 60.0
STOP_SECONDS = 10.0
_TAIL_LINES = 12
_POLL_SECONDS = 0.1
_DEBIAN = {"prometheus": "prometheus", "alertmanager": "prometheus-alertmanager"}
"""Program to Debian's package, which may have given the program the package's name."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where they are installed."""

    prometheus: str
    alertmanager: str


def find_programs(which: Callable[[str], str | None] = shutil.which) -> Programs:
    """Both programs. Raises ProgramMissing, with the command that installs what is missing."""
    found = {program: which(program) or which(package) for program, package in _DEBIAN.items()}
    if missing := [program for program, place in found.items() if place is None]:
        packages = " ".join(_DEBIAN[program] for program in missing)
        raise ProgramMissing(
            f"{' and '.join(missing)} cannot be found; as root: apt-get install --no-install-recommends {packages}"
        )
    return Programs(**{program: str(place) for program, place in found.items()})


@contextmanager
def prometheus(program: str, directory: Path, config: Path) -> Iterator[str]:
    """A Prometheus on loopback, with its data in the directory; gives its URL. Raises ProgramNotStarted."""
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}", "--query.lookback-delta=30s"]
    with _answering([program, *options, f"--web.listen-address={address}"], directory / "log", address) as url:
        yield url


@contextmanager
def alertmanager(program: str, directory: Path, config: Path) -> Iterator[str]:
    """An Alertmanager on loopback, alone, with its data in the directory; gives its URL. Raises ProgramNotStarted."""
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={config}", f"--storage.path={directory / 'data'}", "--cluster.listen-address="]
    with _answering([program, *options, f"--web.listen-address={address}"], directory / "log", address) as url:
        yield url


@contextmanager
def _answering(command: Sequence[str], log: Path, address: str) -> Iterator[str]:
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  (programs that find_programs found)
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops it
        )
    try:
        _wait_until_ready(process, log, f"http://{address}")
        yield f"http://{address}"
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; after too long a wait, or at a second Ctrl-C, it is killed."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:  # a second Ctrl-C comes out here
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def tail(log: Path) -> str:
    """The last lines of a log."""
    with log.open(encoding="utf-8", errors="replace") as file:
        lines = deque(file, maxlen=_TAIL_LINES)
    return f"the last lines of {log}:\n" + "".join(lines).rstrip()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path, url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as client:
        while not _is_ready(client, url):
            if (code := process.poll()) is not None:
                raise ProgramNotStarted(f"{log.parent.name} ended with exit code {code}; {tail(log)}")
            if time.monotonic() > deadline:
                raise ProgramNotStarted(f"{url} did not answer within {START_SECONDS:.0f} s; {tail(log)}")
            time.sleep(_POLL_SECONDS)


def _is_ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/-/ready").is_success
    except httpx.TransportError:
        return False
