"""The use case of looking around: which models there are, as far as the caller may know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sluicegate.auth import Audience, Denied, Grant, ModelEntry, Policy, Reason
from sluicegate.server.caller import Call, Caller
from sluicegate.server.cards import ModelCard, model_card
from sluicegate.server.changes import Changes
from sluicegate.server.errors import CallRefused
from sluicegate.server.gate import Gate
from sluicegate.server.models import HostedModel, Models, ModelState


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model as one caller may see it; equal to another if the caller sees no difference.

    `source` is a hub id, or empty: where the server keeps its files is nobody's business. `hosted` is None while the
    model does not answer. `denied`: why the caller may not generate with it, None if it
    may; under `agreement`, where there is one.
    """

    id: str
    entry: ModelEntry
    source: str
    stage: str
    open_to: Audience | None
    state: ModelState
    hosted: HostedModel | None
    denied: Reason | None
    agreement: str | None


class Catalog:
    """Shows models. One for the process; event loop only. `changes` tells of new policies, states, and the drain."""

    def __init__(self, gate: Gate, models: Models, changes: Changes) -> None:
        self._gate = gate
        self._models = models
        self._changes = changes
        self._is_closing = False

    def list(self, caller: Caller) -> tuple[ModelView, ...]:
        """All models that the caller may know of, smallest first."""
        policy = self._gate.policy
        visible = policy.visible_models(caller.principal, self._gate.now())
        views = [self._view(policy, model, caller) for model in visible]
        return tuple(sorted(views, key=lambda view: (view.entry.parameters, view.id)))

    def get(self, caller: Caller, model: str) -> ModelView:
        """One model. Raises the same refusal for one that is closed to the caller and for one that does not exist."""
        policy = self._gate.policy
        if model not in policy.visible_models(caller.principal, self._gate.now()):
            raise CallRefused(Reason.MODEL_NOT_RELEASED, {"stage": policy.stage.id})
        return self._view(policy, model, caller)

    def card(self, view: ModelView) -> ModelCard:
        """The rest of what a careful user must know of a model that the caller was shown."""
        weights = None if view.hosted is None else view.hosted.weights_sha256
        return model_card(self._gate.policy, view.id, weights)

    async def watch(self, call: Call) -> AsyncIterator[tuple[ModelView, ...]]:
        """The list now, and again whenever it has changed for the caller.

        Ends with CallRefused when the caller's token expires or the server drains.
        """
        shown: tuple[ModelView, ...] | None = None
        seen = self._changes.count
        while True:
            self._check_still_good(call.caller)
            views = self.list(call.caller)
            if views != shown:
                shown = views
                yield views
            seen = await self._changes.beyond(seen, self._gate.watch_seconds(call.caller.principal))

    def close(self) -> None:
        """End every watch, and refuse new ones: the server drains."""
        self._is_closing = True
        self._changes.announce()

    def _check_still_good(self, caller: Caller) -> None:
        if self._is_closing:
            raise CallRefused(Reason.SERVER_DRAINING)
        if self._gate.has_expired(caller.principal):
            raise CallRefused(Reason.TOKEN_EXPIRED)
        if (denied := self._gate.check_caller(caller.principal)) is not None:
            raise CallRefused(denied.reason, denied.detail)

    def _view(self, policy: Policy, model: str, caller: Caller) -> ModelView:
        access = self._gate.best(caller, model)
        return ModelView(
            id=model,
            entry=policy.models[model],
            source=policy.models[model].source if policy.weights_directory(model) is None else "",
            stage=policy.stage.id,
            open_to=policy.stage.open.get(model),
            state=self._models.state(model),
            hosted=self._models.find(model),
            denied=access.reason if isinstance(access, Denied) else None,
            agreement=access.agreement if isinstance(access, Grant) else None,
        )
