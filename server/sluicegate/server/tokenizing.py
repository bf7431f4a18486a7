"""The use case of tokenizing: between a model's tokens and text, for those who may generate with the model."""

from __future__ import annotations

from sluicegate.auth import AccessRequest
from sluicegate.server.caller import Caller
from sluicegate.server.gate import Gate
from sluicegate.server.models import HostedModel, Models


class Tokenizing:
    """Encodes and decodes. One for the process; event loop only."""

    def __init__(self, gate: Gate, models: Models) -> None:
        self._gate = gate
        self._models = models

    async def tokenize(
        self, caller: Caller, model: str, text: str, purpose: str | None
    ) -> tuple[HostedModel, list[int]]:
        """The tokens of a text. Raises CallRefused."""
        hosted = self._hosted(caller, model, purpose)
        return hosted, await hosted.encode(text)

    def detokenize(self, caller: Caller, model: str, ids: tuple[int, ...], purpose: str | None) -> bytes:
        """The bytes of some tokens. Raises CallRefused."""
        hosted = self._hosted(caller, model, purpose)
        hosted.check_ids("token_ids", ids)
        return hosted.tokenizer.decode(ids)

    def _hosted(self, caller: Caller, model: str, purpose: str | None) -> HostedModel:
        request = AccessRequest(action="generate", model=model, purpose=purpose)
        self._gate.admit(caller, request, counted_as="tokenize")
        return self._models.ready(model)
