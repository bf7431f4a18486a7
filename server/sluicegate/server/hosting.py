"""The use case of taking a model out of a replica and putting it in again, while others are served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any

import structlog

from sluicegate.auth import Policy, Principal, Reason
from sluicegate.server.auditing import Auditing
from sluicegate.server.engine.daemon import to_daemon
from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.messages import Load
from sluicegate.server.errors import CallRefused, CheckpointError, FieldViolation
from sluicegate.server.live import LiveCall, LiveCalls
from sluicegate.server.models import NOT_READY_RETRY_SECONDS, Models, engine_faults
from sluicegate.server.tokenizer import Tokenizer

LAST_WORDS_SECONDS = 2.0
"""For calls that are ended to let go of their slots; an engine ends what is left."""
LONGEST_PROBLEM = 500
"""Characters of what a load failed of: trailers have little room."""

log = structlog.get_logger()


class Hosting:
    """Loads and unloads models. One for the process; event loop only.

    `load_of` says what is to be loaded as a model, by the policy in force and beside what else its engine lacks; it
    blocks, and raises CheckpointError. `grace_seconds`: how long a model's calls may go on if nobody says.
    """

    def __init__(
        self,
        models: Models,
        live: LiveCalls,
        auditing: Auditing,
        policy: Callable[[], Policy],
        load_of: Callable[[Policy, str, Collection[Load]], Load],
        *,
        grace_seconds: float,
    ) -> None:
        self._models = models
        self._live = live
        self._auditing = auditing
        self._policy = policy
        self._load_of = load_of
        self._grace_seconds = grace_seconds
        self._changing = {model: asyncio.Lock() for model in models.hosted}
        self._coming: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()

    async def load(self, operator: Principal, model: str, justification: str, *, validate_only: bool) -> None:
        """Have the model answer. One that does is left as it is.

        The engine reads what the policy in force says, and checks the digest that it pins. Raises CallRefused
        (MODEL_LOAD_FAILED) if it cannot; the others are served all the same.
        """
        self._check(model)
        if model not in self._policy().models:
            raise _invalid("is the id of a model of the policy in force")
        if not validate_only:
            self._auditing.operated(operator, "load_model", model, justification)
            await self._carried_out(self._load(model))

    async def unload(
        self,
        operator: Principal,
        model: str,
        justification: str,
        grace_seconds: float | None,
        *,
        validate_only: bool,
    ) -> None:
        """Take the model out: no new calls at once, those under way get their time, then its memory is freed."""
        self._check(model)
        self._check_drafts_for_none(model)
        if not validate_only:
            self._auditing.operated(operator, "unload_model", model, justification)
            await self._carried_out(
                self._unload(model, self._grace_seconds if grace_seconds is None else grace_seconds)
            )

    async def _load(self, model: str) -> None:
        engine = self._models.engines.hosting(model)
        async with self._changing[model]:
            if self._models.find(model) is not None:
                return
            if engine.facts(model) is not None:
                raise _failed("other weights are loaded than the policy pins; unload the model first")
            if (drafter := engine.drafter(model)) in engine.unloaded:
                raise _failed(f"{drafter}, which drafts for it, is not loaded; load that first")
            self._coming.add(model)
            try:
                load = await to_daemon(self._load_of, self._policy(), model, engine.unloaded.values())
                tokenizer = await to_daemon(Tokenizer.load, Path(load.directory))
                with engine_faults():
                    await engine.load(load)
            except (CheckpointError, ModelLoadError) as error:
                log.error("model_not_loaded", model=model, problem=str(error))
                raise _failed(str(error)) from error
            finally:
                self._coming.discard(model)
            self._models.take_tokenizer(model, tokenizer)
            log.warning("model_loaded_by_operator", model=model)

    async def _unload(self, model: str, grace_seconds: float) -> None:
        engine = self._models.engines.hosting(model)
        async with self._changing[model]:
            self._check_drafts_for_none(model)  # others may have come since it was asked
            engine.retire(model)
            calls = [call for call in self._live if call.grant.model == model]
            await _ended(calls, grace_seconds)
            for call in calls:
                call.end(CallRefused(Reason.MODEL_NOT_READY, retry_after_seconds=NOT_READY_RETRY_SECONDS))
            await _ended(calls, LAST_WORDS_SECONDS)
            await engine.unload(model)
            log.warning("model_unloaded_by_operator", model=model)

    def _check_drafts_for_none(self, model: str) -> None:
        """Raise CallRefused for one that drafts for a model which is loaded, or about to be."""
        engine = self._models.engines.hosting(model)
        drafted = [
            name
            for name in engine.models
            if engine.drafter(name) == model and (name not in engine.unloaded or name in self._coming)
        ]
        if drafted:
            raise _invalid(f"drafts for no other model; unload {', '.join(drafted)} first")

    def _check(self, model: str) -> None:
        if model not in self._changing:
            raise _invalid("is the id of a model of the settings")

    async def _carried_out(self, change: Coroutine[Any, Any, None]) -> None:
        """See it to its end, whatever becomes of its caller: a model is not left half out."""
        task = asyncio.create_task(change)
        self._running.add(task)
        task.add_done_callback(self._forget)
        await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Let go of it, and of an error that nobody waited for: it is logged, and asyncio would complain."""
        self._running.discard(task)
        if not task.cancelled():
            task.exception()


async def _ended(calls: list[LiveCall], seconds: float) -> None:
    """Wait until these calls are over, or that long."""
    try:
        async with asyncio.timeout(seconds):
            for call in calls:
                await call.over.wait()
    except TimeoutError:
        pass


def _failed(problem: str) -> CallRefused:
    return CallRefused(Reason.MODEL_LOAD_FAILED, {"problem": problem[:LONGEST_PROBLEM]})


def _invalid(rule: str) -> CallRefused:
    return CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation("model", rule)])
