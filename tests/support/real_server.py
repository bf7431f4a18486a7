"""The server as users run it: `sluicegate serve` in a process of its own, with its engine processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import grpc
import httpx
import pytest
from deployment import Deployment
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

COMMAND = Path(sys.executable).with_name("sluicegate")
START_SECONDS = 180.0
"""Loading torch in several processes on a busy machine takes its time."""
STOP_SECONDS = 30.0
WAIT_SECONDS = 60.0
SHOWN_CHARACTERS = 8_000
WORKER = "sluicegate.server.worker"

Value = TypeVar("Value")


def wait_for(what: str, look: Callable[[], Value], seconds: float = WAIT_SECONDS) -> Value:
    """The first true value that `look` gives. Looks again and again: a process of its own tells us nothing."""
    limit = time.monotonic() + seconds
    while not (value := look()):
        assert time.monotonic() < limit, f"after {seconds} s: not {what}"
        time.sleep(0.02)
    return value


async def until(what: str, look: Callable[[], object] | Callable[[], Awaitable[object]]) -> None:
    """Wait until `look` gives something true, as wait_for does, while other tasks go on."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            found = look()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.1)


class Process:
    """`sluicegate serve`, started; what it says goes to a file."""

    def __init__(
        self,
        deployment: Deployment,
        *arguments: str,
        log: str = "server.log",
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.log_file = deployment.directory / log
        with self.log_file.open("wb") as output:
            self._process = subprocess.Popen(
                [COMMAND, "serve", "--config", deployment.config, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything said so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log entries of this name so far; a last line that is half-written does not count."""
        lines = [line for line in self.log.splitlines(keepends=True) if line.startswith("{") and line.endswith("}\n")]
        return [entry for line in lines if (entry := json.loads(line))["event"] == name]

    def engine_pids(self) -> list[int]:
        """Its engine processes that run now, oldest first."""
        return [pid for pid in _children(self.pid) if WORKER in _command(pid)]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit status, once it has ended."""
        return self._process.wait(seconds)

    def end(self) -> None:
        """Make sure that it has ended, whatever became of it, and its engines with it."""
        engines = self.engine_pids() if self.is_running else []
        self.signal(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.wait()
        wait_for("all engines gone", lambda: not any(map(is_alive, engines)))


class RealServer(Process):
    """A server process that takes calls."""

    def __init__(
        self,
        deployment: Deployment,
        *arguments: str,
        log: str = "server.log",
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(deployment, *arguments, log=log, environment=environment)
        self.deployment = deployment
        self.address = ""
        self.metrics_url = ""

    def wait_until_serving(self) -> None:
        """Wait until its health says so."""
        entries = wait_for("serving", lambda: self.events("serving") or not self.is_running, START_SECONDS)
        assert isinstance(entries, list), "the server ended while it started"
        self.address = entries[0]["address"]
        self.metrics_url = f"http://{entries[0]['metrics']}/metrics"
        if "tls" not in self.deployment.config.read_text():
            assert self.health("") == health_pb2.HealthCheckResponse.SERVING

    def health(self, service: str, token: str | None = None) -> int:
        """What health says of a service."""
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        with grpc.insecure_channel(self.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # its type stubs know no method
            request = health_pb2.HealthCheckRequest(service=service)
            status: int = stub.Check(request, timeout=WAIT_SECONDS, metadata=metadata).status
            return status

    def token(self, *arguments: Any, **more: Any) -> str:
        """A token; see Deployment."""
        return self.deployment.token(*arguments, **more)

    def metrics_text(self) -> str:
        """What a scrape reads."""
        return httpx.get(self.metrics_url, trust_env=False, timeout=WAIT_SECONDS).raise_for_status().text

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return self.metrics().total(name, **labels)

    def metrics(self) -> Scrape:
        """All samples, as of now."""
        return Scrape(self.metrics_text())


class Scrape:
    """The samples of one reading of /metrics."""

    def __init__(self, text: str) -> None:
        families = text_string_to_metric_families(text)
        self._samples = [sample for family in families for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels. There must be one."""
        found = [each.value for each in self._samples if each.name == name and labels.items() <= each.labels.items()]
        assert found, f"no sample {name} {labels}"
        return sum(found)


@contextmanager
def real_server(deployment: Deployment, *arguments: str) -> Iterator[RealServer]:
    """A server process that takes calls, ended with the context. If the context fails, its log is shown."""
    server = RealServer(deployment, *arguments)
    try:
        server.wait_until_serving()
        yield server
    except BaseException:
        show_log(server)
        raise
    finally:
        server.end()


@contextmanager
def replicas(deployment: Deployment, count: int) -> Iterator[list[RealServer]]:
    """So many servers of one deployment that take calls, ended with the context. Its state must be one to share."""
    servers = [
        RealServer(
            deployment,
            *("--replica", f"gate-{number}", "--audit-directory", f"{deployment.directory}/audit-{number}"),
            log=f"server-{number}.log",
        )
        for number in range(count)
    ]
    try:
        for server in servers:
            server.wait_until_serving()
        yield servers
    except BaseException:
        for server in servers:
            show_log(server)
        raise
    finally:
        for server in servers:
            server.end()


@contextmanager
def starting_server(deployment: Deployment, *arguments: str) -> Iterator[Process]:
    """A server process that need not come up."""
    process = Process(deployment, *arguments)
    try:
        yield process
    except BaseException:
        show_log(process)
        raise
    finally:
        process.end()


def show_log(process: Process) -> None:
    """Print the end of the log, which pytest shows with the failure."""
    print(f"--- {process.log_file}\n{process.log[-SHOWN_CHARACTERS:]}")


def add_logs(item: pytest.Item, report: pytest.TestReport) -> pytest.TestReport:
    """Add to a failed test's report the ends of the logs of servers that fixtures gave it."""
    servers = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Process)]
    if report.failed:
        report.sections += [(f"log: {server.log_file}", server.log[-SHOWN_CHARACTERS:]) for server in servers]
    return report


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def resident_bytes(pid: int) -> int:
    """Memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _children(pid: int) -> Sequence[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return sorted(found)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
