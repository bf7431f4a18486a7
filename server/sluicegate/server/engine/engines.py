"""All engines of a front end as one: a request goes to the engine that hosts its model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from sluicegate.server.engine.client import EngineStream
from sluicegate.server.engine.errors import EngineUnavailable
from sluicegate.server.engine.messages import Figures, Finished, Loaded, Refused, Score, Scored, Submit
from sluicegate.server.engine.supervisor import Engine, ModelState


class Engines:
    """Finds each model's engine. Event loop only. Every model is hosted by one engine."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.each = tuple(engines)
        """One for each device."""
        self._by_model = {model: engine for engine in engines for model in engine.models}
        if len(self._by_model) != sum(len(engine.models) for engine in engines):
            raise ValueError("a model is hosted twice")

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of all hosted models, ready or not."""
        return tuple(self._by_model)

    @property
    def states(self) -> dict[str, ModelState]:
        """Each model's state now."""
        return {model: engine.states[model] for model, engine in self._by_model.items()}

    @property
    def figures(self) -> dict[str, Figures]:
        """The last figures of each model whose engine is up."""
        return {model: figures for engine in self.each for model, figures in engine.figures.items()}

    def facts(self, model: str) -> Loaded | None:
        """What a model is, while it answers; else None, also for a model that is not hosted."""
        engine = self._by_model.get(model)
        return None if engine is None else engine.facts(model)

    @property
    def unloaded(self) -> frozenset[str]:
        """Models that engines were told to do without."""
        return frozenset(model for engine in self.each for model in engine.unloaded)

    def hosting(self, model: str) -> Engine:
        """The engine that hosts this model, loaded or not. Raises EngineUnavailable if none does."""
        return self._engine(model)

    def ready(self, model: str) -> bool:
        """Whether a model answers now."""
        return self.facts(model) is not None

    async def submit(self, message: Submit) -> EngineStream:
        """Start a generation. Raises EngineUnavailable while the model does not answer."""
        return await self._engine(message.model).submit(message)

    async def score(
        self, message: Score, *, on_started: Callable[[], None] | None = None
    ) -> Scored | Finished | Refused:
        """Score a text: the request's last event. Raises EngineUnavailable, EngineLost."""
        return await self._engine(message.model).score(message, on_started=on_started)

    async def start(self) -> None:
        """Start all engines side by side. Raises the first one's error; none is left running then."""
        try:
            async with asyncio.TaskGroup() as starts:
                for engine in self.each:
                    starts.create_task(engine.start())
        except BaseExceptionGroup as group:
            await self.aclose()
            raise group.exceptions[0] from None
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End all engines side by side; the first one's error is raised when all have ended."""
        ends = await asyncio.gather(*(engine.aclose() for engine in self.each), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _engine(self, model: str) -> Engine:
        engine = self._by_model.get(model)
        if engine is None:
            raise EngineUnavailable(model)
        return engine
