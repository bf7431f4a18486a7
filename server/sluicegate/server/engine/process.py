"""An engine in a process of its own, held by a pipe: it ends when the front end does."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import structlog

from sluicegate.server.engine.client import EngineClient
from sluicegate.server.engine.errors import EngineLost, EngineUnavailable
from sluicegate.server.engine.messages import Figures
from sluicegate.server.engine.supervisor import Launch, Worker
from sluicegate.server.engine.transport import DealerConnection

WORKER_MODULE = "sluicegate.server.worker"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """When an engine counts as hung: it sent nothing in `silent_limit` intervals in a row, each with a ping.

    Intervals are counted, not seconds, so that a front end which was itself held up does not blame the engine.
    The default, half a minute, is far above the longest step.
    """

    interval_seconds: float = 5.0
    silent_limit: int = 6


def process_launcher(
    *,
    arguments: Sequence[str] = (),
    module: str = WORKER_MODULE,
    heartbeat: Heartbeat | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Launch:
    """Workers that run `python -m module`, with these command-line arguments beside the address."""

    async def launch(on_figures: Callable[[Figures], None] | None) -> Worker:
        with ExitStack() as undo:
            # mkdtemp makes the directory with mode 0700; the worker refuses any other.
            directory = tempfile.TemporaryDirectory(prefix="sluicegate-", ignore_cleanup_errors=True)
            undo.callback(directory.cleanup)
            address = f"ipc://{directory.name}/engine"
            connection = DealerConnection(address, front_end=uuid.uuid4().hex)
            undo.callback(connection.close)
            # -P: a module in the working directory must not shadow an installed one.
            command = [sys.executable, "-P", "-m", module, "--address", address, *arguments]
            process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
            undo.pop_all()
        return WorkerProcess(
            process,
            connection,
            directory,
            heartbeat=heartbeat or Heartbeat(),
            on_figures=on_figures,
            sleep=sleep,
        )

    return launch


class WorkerProcess:
    """One engine process. Its standard input is a pipe that this object holds open."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        connection: DealerConnection,
        directory: tempfile.TemporaryDirectory[str],
        *,
        heartbeat: Heartbeat,
        on_figures: Callable[[Figures], None] | None,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._process = process
        self._connection = connection
        self._directory = directory
        self._heartbeat = heartbeat
        self._sleep = sleep
        self._client = EngineClient(connection.send, on_figures)
        self._exit = asyncio.create_task(self._wait_for_exit())
        self._watches = {asyncio.create_task(self._take_events()), asyncio.create_task(self._wait_for_hang())}

    @property
    def client(self) -> EngineClient:
        """Speaks to this worker."""
        return self._client

    @property
    def pid(self) -> int:
        """The process' id."""
        return self._process.pid

    async def ended(self) -> None:
        """Return when the process has exited or hangs, or cannot be understood."""
        await self._client.lost()

    async def stop(self, limit_seconds: float) -> None:
        """Ask it to end, kill it after the limit, reap it and remove its directory. A cancel kills it at once."""
        if not self._exit.done():
            self._client.stop()
        try:
            done, _ = await asyncio.wait({self._exit}, timeout=limit_seconds)
            if not done:
                log.warning("engine_killed", pid=self.pid)
        finally:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.kill()
            await _complete(self._clean_up())

    async def _clean_up(self) -> None:
        """Reap the process, which has ended or was killed, and release what belongs to it."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.wait({self._exit, *self._watches})
        self._connection.close()
        self._directory.cleanup()

    async def _take_events(self) -> None:
        try:
            await self._connection.receive_into(self._client.deliver)
        except Exception:  # whatever it is, streams must not wait for events that nobody takes
            log.exception("engine_events_not_taken")
            self._client.lose(EngineLost("the engine's events cannot be taken"))

    async def _wait_for_exit(self) -> None:
        code = await self._process.wait()
        log.info("engine_exited", pid=self.pid, code=code)
        self._client.lose(EngineLost(f"the engine process ended with code {code}"))
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _wait_for_hang(self) -> None:
        silent = 0
        while silent < self._heartbeat.silent_limit:
            delivered = self._client.delivered
            try:
                self._client.ping()
            except EngineUnavailable:
                return  # it is lost already
            await self._sleep(self._heartbeat.interval_seconds)
            alive = self._client.delivered > delivered or self._client.may_be_silent
            silent = 0 if alive else silent + 1
        log.error("engine_hangs", pid=self.pid)
        self._client.lose(EngineLost("the engine process hangs"))


async def _complete(work: Coroutine[Any, Any, None]) -> None:
    """Run something short to its end; a cancel that comes meanwhile is raised after it."""
    task = asyncio.create_task(work)
    cancel: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancel = error
    if cancel is not None:
        raise cancel
    task.result()
