"""The demo's server: a process of its own, as `sluicegate serve` runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sluicegate.server.demo.errors import ServerNotStarted

START_SECONDS = 120.0
"""A cold disk has to deliver torch."""
STOP_SECONDS = 30.0
"""Above the grace period of its settings."""
TAIL_LINES = 12
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server takes calls and where it shows metrics."""

    calls: str
    metrics: str


class Server:
    """A server that has started. Its log is the file that it was given."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process' id."""
        return self._process.pid

    def wait_until_serving(self, on_event: Callable[[str], None], limit_seconds: float = START_SECONDS) -> Addresses:
        """Wait for the log to say `serving`; `on_event` hears of each model that is loaded. Raises ServerNotStarted."""
        deadline = time.monotonic() + limit_seconds
        told = 0
        while True:
            ended = self._process.poll()
            events = list(log_events(self._log))
            for event in events[told:]:
                match event:
                    case {"event": "model_loaded", "model": str(model)}:
                        on_event(model)
                    case {"event": "serving", "address": str(calls), "metrics": str(metrics)}:
                        return Addresses(calls, metrics)
            told = len(events)
            if ended is not None:
                raise ServerNotStarted(f"the server ended with exit code {ended}; {self.tail()}")
            if time.monotonic() > deadline:
                raise ServerNotStarted(f"the server did not serve within {limit_seconds:.0f} s; {self.tail()}")
            time.sleep(_POLL_SECONDS)

    def wait(self) -> int:
        """Wait until it ends by itself; gives its exit code."""
        return self._process.wait()

    def stop(self) -> int:
        """Let it drain and end; after too long a wait, or at a second Ctrl-C, it is killed. Gives its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            finally:  # a second Ctrl-C comes out here
                self._process.kill()
        return self._process.wait()

    def tail(self) -> str:
        """The last lines of its log."""
        with self._log.open(encoding="utf-8", errors="replace") as file:
            lines = deque(file, maxlen=TAIL_LINES)
        return f"the last lines of {self._log}:\n" + "".join(lines).rstrip()


@contextmanager
def started(program: Path, settings: Path, log: Path, variables: Mapping[str, str]) -> Iterator[Server]:
    """Start the server; it is stopped when the context is left, however that happens."""
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  (our own program)
            [program, "serve", "--config", settings],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=variables,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the server
        )
    server = Server(process, log)
    try:
        yield server
    finally:
        server.stop()


def log_events(log: Path) -> Iterator[Mapping[str, object]]:
    """The whole lines of the log that are JSON objects."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        if line.startswith("{") and line.endswith("}\n"):
            try:
                event = json.loads(line)
            except ValueError:
                continue
            yield event
