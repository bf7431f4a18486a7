"""The use case of those who run a replica: see what its engines do, and step in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from sluicegate.auth import Principal, Reason
from sluicegate.server.auditing import Auditing
from sluicegate.server.engine.messages import Loaded
from sluicegate.server.errors import CallRefused
from sluicegate.server.live import CallState, LiveCall, LiveCalls
from sluicegate.server.models import Models, ModelState

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """What one model has to do. `queued` counts calls, `running` sequences; `facts` are None while it is not loaded."""

    model: str
    state: ModelState
    queued: int
    running: int
    facts: Loaded | None


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One engine's process with its models. `device` as the settings have it."""

    device: str
    is_alive: bool
    restarts: int
    models: tuple[ModelLoad, ...]


@dataclass(frozen=True, slots=True)
class ActiveCall:
    """A call under way, as it is now: nothing of what it says."""

    live: LiveCall
    state: CallState
    age_seconds: float


class Operating:
    """One for the process; event loop only. `ask_drain` has whoever runs the server drain it."""

    def __init__(
        self,
        models: Models,
        live: LiveCalls,
        auditing: Auditing,
        ask_drain: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._live = live
        self._auditing = auditing
        self._ask_drain = ask_drain
        self._clock = clock

    def load(self) -> Sequence[EngineLoad]:
        """What each engine has to do."""
        return [
            EngineLoad(engine.device, engine.is_alive, engine.restarts, tuple(map(self.load_of, engine.models)))
            for engine in self._models.engines.each
        ]

    def load_of(self, model: str) -> ModelLoad:
        """What one hosted model has to do."""
        now, figures = self._clock(), self._models.engines.figures.get(model)
        waiting = [call for call in self._live if call.grant.model == model and call.state(now) is CallState.QUEUED]
        return ModelLoad(
            model,
            self._models.state(model),
            queued=len(waiting),
            running=0 if figures is None else figures.running,
            facts=self._models.engines.facts(model),
        )

    def active(self) -> Sequence[ActiveCall]:
        """The calls under way, the oldest first."""
        return [self._seen(live) for live in sorted(self._live, key=lambda live: live.id)]

    def cancel(self, operator: Principal, request_id: str, justification: str, *, validate_only: bool) -> ActiveCall:
        """End a call wherever it waits; gives it as it was. Raises CallRefused (REQUEST_UNKNOWN)."""
        live = self._live.find(request_id)
        if live is None:
            raise CallRefused(Reason.REQUEST_UNKNOWN)
        seen = self._seen(live)
        if not validate_only:
            self._auditing.operated(operator, "cancel_request", live.id, justification)
            live.end(CallRefused(Reason.CANCELLED_BY_OPERATOR))
            log.warning("request_cancelled", request_id=live.id, by="operator")
        return seen

    def drain(self, operator: Principal, justification: str, *, validate_only: bool) -> int:
        """Stop the server as SIGTERM would; gives how many calls are under way. A second time changes nothing."""
        if not validate_only:
            self._auditing.operated(operator, "drain", "replica", justification)
            log.warning("drain_asked", by="operator")
            self._ask_drain()
        return len(self._live)

    def _seen(self, live: LiveCall) -> ActiveCall:
        now = self._clock()
        return ActiveCall(live, live.state(now), now - live.call.arrived)
