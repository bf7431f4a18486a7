"""The models that this process hosts: their tokenizers, their facts, and whether they answer now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sluicegate.auth import Reason
from sluicegate.server.engine.engines import Engines
from sluicegate.server.errors import CallRefused, FieldViolation
from sluicegate.server.tokenizer import Tokenizer

NOT_READY_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A model that answers."""

    id: str
    directory: Path
    tokenizer: Tokenizer
    parameters: int
    context_length: int
    vocabulary_size: int
    weights_sha256: str
    dtype: str

    def check_ids(self, field: str, ids: Iterable[int]) -> None:
        """Raise CallRefused for an id outside the vocabulary."""
        if any(not 0 <= token < self.vocabulary_size for token in ids):
            allowed = f"token ids of this model go from 0 to {self.vocabulary_size - 1}"
            raise CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation(field, allowed)])


class Models:
    """Looks up hosted models. `tokenizers` and `directories` are those that the server started with."""

    def __init__(self, engines: Engines, tokenizers: Mapping[str, Tokenizer], directories: Mapping[str, Path]) -> None:
        self.engines = engines
        self._tokenizers = tokenizers
        self._directories = directories

    def hosts(self, model: str) -> bool:
        """Whether this process hosts the model, ready or not."""
        return model in self._tokenizers

    def find(self, model: str) -> HostedModel | None:
        """The model, if it answers now."""
        facts = self.engines.facts(model)
        if facts is None or model not in self._tokenizers:
            return None
        return HostedModel(
            id=model,
            directory=self._directories[model],
            tokenizer=self._tokenizers[model],
            parameters=facts.parameters,
            context_length=facts.context_length,
            vocabulary_size=facts.vocabulary_size,
            weights_sha256=facts.weights_sha256,
            dtype=facts.dtype,
        )

    def ready(self, model: str) -> HostedModel:
        """The model. Raises CallRefused (MODEL_NOT_READY) while it does not answer."""
        hosted = self.find(model)
        if hosted is None:
            raise CallRefused(Reason.MODEL_NOT_READY, retry_after_seconds=NOT_READY_RETRY_SECONDS)
        return hosted
