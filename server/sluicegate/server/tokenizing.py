"""The use case of tokenizing: between a model's tokens and text, for those who may generate with the model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sluicegate.auth import AccessRequest
from sluicegate.server.caller import Call
from sluicegate.server.models import HostedModel
from sluicegate.server.output import Usage
from sluicegate.server.serving import Serving
from sluicegate.server.state import Wanted


class Tokenizing:
    """Encodes and decodes. One for the process; event loop only. Each call counts as a request of its caller's."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def tokenize(self, call: Call, model: str, text: str, purpose: str | None) -> tuple[HostedModel, list[int]]:
        """The tokens of a text. Raises CallRefused."""
        async with self._hosted(call, model, purpose) as hosted:
            return hosted, await hosted.encode(text)

    async def detokenize(self, call: Call, model: str, ids: tuple[int, ...], purpose: str | None) -> bytes:
        """The bytes of some tokens. Raises CallRefused."""
        async with self._hosted(call, model, purpose) as hosted:
            hosted.check_ids("token_ids", ids)
            return hosted.tokenizer.decode(ids)

    @asynccontextmanager
    async def _hosted(self, call: Call, model: str, purpose: str | None) -> AsyncIterator[HostedModel]:
        """The model, while the call's request is reserved."""
        serving = self._serving
        request = AccessRequest(action="generate", model=model, purpose=purpose)
        grant = serving.gate.admit(call, request, counted_as="tokenize")
        hosted = serving.models.ready(model)
        usage = Usage(prompt_tokens=0)
        with serving.live.entry(call, grant, usage) as entry:
            async with serving.meter.reserved(entry, call.caller, usage, Wanted()):
                await call.record.open(grant)
                entry.start()
                yield hosted
