"""An engine in a thread of the front end's process, for tests: same loop, same messages, no sockets."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable

import structlog

from sluicegate.server.engine.client import EngineClient
from sluicegate.server.engine.errors import EngineLost, FrontEndGone
from sluicegate.server.engine.loading import in_thread
from sluicegate.server.engine.loop import EngineLoop
from sluicegate.server.engine.messages import Figures, Load
from sluicegate.server.engine.runner import Runner
from sluicegate.server.engine.supervisor import Launch, Worker

log = structlog.get_logger()


def thread_launcher(load: Callable[[Load], Runner]) -> Launch:
    """Workers that run in threads, with runners that `load` builds."""

    async def launch(on_figures: Callable[[Figures], None] | None) -> Worker:
        return WorkerThread(load, on_figures)

    return launch


class WorkerThread:
    """An engine loop in a thread. Also that loop's Port: the thread calls `receive` and `send`."""

    def __init__(self, load: Callable[[Load], Runner], on_figures: Callable[[Figures], None] | None = None) -> None:
        self._event_loop = asyncio.get_running_loop()
        self._commands: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._ended = asyncio.Event()
        self._client = EngineClient(self._commands.put, on_figures)
        # A daemon: a runner that never returns must not keep the interpreter from its exit.
        self._thread = threading.Thread(target=self._run, args=(load,), name="engine", daemon=True)
        self._thread.start()

    @property
    def client(self) -> EngineClient:
        """Speaks to this worker."""
        return self._client

    async def ended(self) -> None:
        """Return when the loop has ended, or cannot be understood."""
        await self._client.lost()

    async def stop(self, limit_seconds: float) -> None:
        """Ask the loop to end and join it. A thread cannot be forced: one that hangs is logged and left."""
        self._client.stop()
        try:
            async with asyncio.timeout(limit_seconds):
                await self._ended.wait()
        except TimeoutError:
            log.error("engine_thread_hangs")
            self._client.lose(EngineLost("the engine thread hangs"))
        else:
            self._thread.join()

    def receive(self, timeout_seconds: float | None) -> tuple[str, bytes] | None:
        """The next command."""
        try:
            return "thread", self._commands.get(timeout_seconds != 0, timeout_seconds)
        except queue.Empty:
            return None

    def send(self, front_end: str, data: bytes) -> None:
        """Hand one message over to the event loop. Raises FrontEndGone if that is closed."""
        try:
            self._event_loop.call_soon_threadsafe(self._deliver, data)
        except RuntimeError as error:
            raise FrontEndGone(front_end) from error

    def _deliver(self, data: bytes) -> None:
        try:
            self._client.deliver(data)
        except Exception:  # whatever it is, streams must not wait for events that nobody takes
            log.exception("engine_events_not_taken")
            self._client.lose(EngineLost("the engine's events cannot be taken"))

    def _run(self, load: Callable[[Load], Runner]) -> None:
        try:
            EngineLoop(self, load, start=in_thread).run()
        except Exception:
            log.exception("engine_failed")
        finally:
            self._announce_end()

    def _announce_end(self) -> None:
        def end() -> None:
            self._client.lose(EngineLost("the engine thread has ended"))
            self._ended.set()

        try:
            self._event_loop.call_soon_threadsafe(end)
        except RuntimeError:
            log.info("engine_outlived_its_event_loop")
