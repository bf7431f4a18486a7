"""Keeps an engine alive: starts its worker, loads its models, restarts it when it dies or hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Protocol, Self

import structlog
from msgspec import structs

from sluicegate.server.engine.client import EngineClient, EngineStream
from sluicegate.server.engine.errors import EngineLost, EngineUnavailable, ModelLoadError
from sluicegate.server.engine.messages import Figures, Finished, Load, Loaded, Refused, Score, Scored, Submit

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
STRICT_TRIES = 3  # of a restart, that bring back all models or none; what fails then may come of the loss itself
HEALTHY_SECONDS = 60.0  # a worker that lived this long starts the next back-off from the beginning

log = structlog.get_logger()


class ModelState(Enum):
    """Whether a model answers."""

    SERVING = "serving"
    NOT_SERVING = "not_serving"


class Worker(Protocol):
    """One life of an engine, in a process or a thread."""

    @property
    def client(self) -> EngineClient: ...

    async def ended(self) -> None:
        """Return when it has died or hangs; its client is lost then."""

    async def stop(self, limit_seconds: float) -> None:
        """End it: ask, wait no longer than the limit, then force. Afterwards it is joined."""


Launch = Callable[[Callable[[Figures], None] | None], Awaitable[Worker]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an engine may take."""

    load_seconds: float = 600.0
    stop_seconds: float = 10.0


class Engine:
    """One device's engine as the front end uses it. Event loop only.

    `on_state` hears of every change of a model's state, `on_figures` of every step, `on_restart` of every
    lost worker.
    """

    def __init__(
        self,
        models: Sequence[Load],
        launch: Launch,
        *,
        limits: Limits | None = None,
        on_figures: Callable[[Figures], None] | None = None,
        on_state: Callable[[str, ModelState], None] | None = None,
        on_restart: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._loads = {load.model: load for load in models}
        self._launch = launch
        self._limits = limits or Limits()
        self._on_figures = on_figures
        self._on_state = on_state
        self._on_restart = on_restart
        self._clock = clock
        self._sleep = sleep
        self._worker: Worker | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._facts: dict[str, Loaded] = {}  # of the models that answer now
        self._unloaded: set[str] = set()
        self._changing = asyncio.Lock()
        self.restarts = 0
        """How many workers were lost so far."""

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models that it hosts, ready or not."""
        return tuple(self._loads)

    @property
    def device(self) -> str:
        """Where its models are, as the settings say it."""
        return next(iter(self._loads.values())).device

    @property
    def is_alive(self) -> bool:
        """Whether its worker runs and has loaded what it is to load."""
        return self._worker is not None

    @property
    def states(self) -> dict[str, ModelState]:
        """Each model's state now."""
        return {model: _state(model in self._facts) for model in self.models}

    @property
    def figures(self) -> Mapping[str, Figures]:
        """The last figures of each model; empty while the engine is down."""
        return {} if self._worker is None else self._worker.client.figures

    @property
    def unloaded(self) -> dict[str, Load]:
        """Models that it was told to do without, until they are loaded again, as they were loaded last."""
        return {model: load for model, load in self._loads.items() if model in self._unloaded}

    def drafter(self, model: str) -> str | None:
        """The model that drafts for this one, if one does; it must be loaded first."""
        speculation = self._loads[model].speculation
        return None if speculation is None else speculation.draft

    def facts(self, model: str) -> Loaded | None:
        """What a model is, while it answers; else None."""
        return self._facts.get(model)

    async def submit(self, message: Submit) -> EngineStream:
        """Start a generation. Raises EngineUnavailable while the model does not answer."""
        return await self._client(message.model).submit(message)

    async def score(
        self, message: Score, *, on_started: Callable[[], None] | None = None
    ) -> Scored | Finished | Refused:
        """Score a text: the request's last event. Raises EngineUnavailable, EngineLost."""
        return await self._client(message.model).score(message, on_started=on_started)

    def retire(self, model: str) -> None:
        """Say of a model that it does not answer any more. Its streams go on until it is unloaded."""
        self._unloaded.add(model)
        self._announce({name: facts for name, facts in self._facts.items() if name != model})

    async def unload(self, model: str) -> None:
        """Free a retired model's memory. Streams that it still has end as ABORTED; a lost engine has freed it."""
        async with self._changing:
            with suppress(EngineUnavailable, EngineLost):
                if self._worker is not None:
                    await self._worker.client.unload(model)

    async def load(self, load: Load) -> Loaded:
        """Load one of its models again, as `load` now has it, beside the others; one that answers is left as it is.

        A worker that comes after this one loads it so too, but for its share of the memory, which is then of what all
        of them find free: the one from the start.

        Raises ModelLoadError, after which the model stays unloaded, and EngineUnavailable or EngineLost if the engine
        is gone: what it is to load when it is back is as before.
        """
        async with self._changing:
            if (found := self._facts.get(load.model)) is not None:
                return found
            if (worker := self._worker) is None:
                raise EngineUnavailable(load.model)
            facts = await self._load(worker, load)
            if self._worker is not worker:
                raise EngineLost("the engine was lost when the model was loaded")
            self._loads[load.model] = structs.replace(load, memory_share=self._loads[load.model].memory_share)
            self._unloaded.discard(load.model)
            self._announce({**self._facts, load.model: facts})
            return facts

    async def start(self) -> None:
        """Start the worker and load every model.

        Raises ModelLoadError, or EngineLost if the worker dies of it; nothing is left running then.
        """
        assert self._supervision is None
        worker = await self._bring_up()
        self._supervision = asyncio.create_task(self._supervise(worker))
        self._supervision.add_done_callback(_report_fault)

    async def aclose(self) -> None:
        """End everything. Streams that still run end with EngineLost. A second call does nothing."""
        supervision, self._supervision = self._supervision, None
        try:
            if supervision is not None:
                supervision.cancel()
                await asyncio.wait({supervision})  # not `await supervision`: a cancel of this call must stay visible
        finally:
            self._announce({})
            worker, self._worker = self._worker, None
            if worker is not None:
                await worker.stop(self._limits.stop_seconds)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _client(self, model: str) -> EngineClient:
        if self._worker is None or model not in self._facts:
            raise EngineUnavailable(model)
        return self._worker.client

    async def _supervise(self, worker: Worker) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            began = self._clock()
            await worker.ended()
            lived = self._clock() - began
            log.error("engine_lost", models=self.models, lived_seconds=round(lived, 3))
            self._announce({})
            self._worker = None
            await worker.stop(0)
            self.restarts += 1
            if self._on_restart is not None:
                self._on_restart()
            if lived >= HEALTHY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            restarted, tries = None, 0
            while restarted is None:
                await self._sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)
                restarted, tries = await self._try_again(can_do_without=tries >= STRICT_TRIES), tries + 1
            worker = restarted

    async def _try_again(self, *, can_do_without: bool) -> Worker | None:
        try:
            return await self._bring_up(can_do_without=can_do_without)
        except Exception as error:  # whatever it is, the next attempt may succeed, and nobody waits for this task
            log.error("engine_restart_failed", models=self.models, error=repr(error))
            return None

    async def _bring_up(self, *, can_do_without: bool = False) -> Worker:
        """A worker with all models loaded. They answer only then: a load would hold up streams.

        `can_do_without`: those that cannot be loaded are left out, if there are others; they answer when somebody has
        loaded them, or after another restart.
        """
        worker = await self._launch(self._on_figures)
        try:
            facts: dict[str, Loaded] = {}
            failures: list[ModelLoadError] = []
            for model, load in self._loads.items():
                if model in self._unloaded:
                    continue
                try:
                    facts[model] = await self._load(worker, load)
                except ModelLoadError as error:
                    if not can_do_without:
                        raise
                    log.error("model_not_loaded_again", model=model, problem=str(error))
                    failures.append(error)
            if failures and not facts:
                raise failures[0]
            while retired := facts.keys() & self._unloaded:  # while the worker came up
                model = retired.pop()
                del facts[model]
                await worker.client.unload(model)
        except BaseException:
            await worker.stop(0)
            raise
        self._worker = worker
        self._announce(facts)
        return worker

    async def _load(self, worker: Worker, load: Load) -> Loaded:
        try:
            async with asyncio.timeout(self._limits.load_seconds):
                return await worker.client.load(load)
        except TimeoutError:
            message = f"{load.model}: not loaded within {self._limits.load_seconds} seconds"
            raise ModelLoadError(message) from None

    def _announce(self, facts: dict[str, Loaded]) -> None:
        """Take what answers now, and tell of every model whose state it changes."""
        before, self._facts = self._facts, facts
        for model in self.models:
            if self._on_state is not None and (model in before) != (model in facts):
                self._on_state(model, _state(model in facts))


def _state(answers: bool) -> ModelState:
    return ModelState.SERVING if answers else ModelState.NOT_SERVING


def _report_fault(supervision: asyncio.Task[None]) -> None:
    """Nobody waits for a supervision: one that a callback has ended is told of at once."""
    if not supervision.cancelled() and (error := supervision.exception()) is not None:
        log.error("engine_supervision_failed", exc_info=error)
