"""The models that this process hosts: their tokenizers, their facts, and whether they answer now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

from sluicegate.auth import Policy, Reason
from sluicegate.server.engine.engines import Engines
from sluicegate.server.engine.errors import EngineLost, EngineUnavailable
from sluicegate.server.errors import CallRefused, FieldViolation
from sluicegate.server.request import Prompt
from sluicegate.server.tokenizer import Tokenizer
from sluicegate.server.watermark import Keyring

NOT_READY_RETRY_SECONDS = 2.0
LONG_TEXT = 4_096  # characters; above this, encoding would hold the event loop for milliseconds


class ModelState(Enum):
    """Whether a model answers now."""

    LOADING = auto()
    READY = auto()
    UNAVAILABLE = auto()


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A model that answers."""

    id: str
    tokenizer: Tokenizer
    parameters: int
    context_length: int
    vocabulary_size: int
    weights_sha256: str
    dtype: str
    end_of_text: int
    watermark_id: str | None
    """Of the key that its output is marked by, where that is due; None without one."""
    long_texts: Executor
    """Of one thread, which encodes long texts: that takes the interpreter from the event loop, so one at a time. A
    caller who leaves takes a text that waits along; one that is being encoded is so to its end, before the next."""

    def check_ids(self, field: str, ids: Iterable[int]) -> None:
        """Raise CallRefused for an id outside the vocabulary."""
        if any(not 0 <= token < self.vocabulary_size for token in ids):
            allowed = f"token ids of this model go from 0 to {self.vocabulary_size - 1}"
            raise CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation(field, allowed)])

    def room(self, prompt_tokens: int, wanted: int) -> int:
        """Tokens that fit behind a prompt. Raises CallRefused (row 18) if `wanted` ones do not."""
        room = self.context_length - prompt_tokens
        if room < wanted:
            facts = {"context_length": self.context_length, "prompt_tokens": prompt_tokens, "max_output_tokens": wanted}
            raise CallRefused(Reason.CONTEXT_LENGTH_EXCEEDED, {name: str(value) for name, value in facts.items()})
        return room

    async def encode(self, prompt: Prompt) -> list[int]:
        """A prompt's tokens. Raises CallRefused for ids that the model does not have."""
        if isinstance(prompt, tuple):
            self.check_ids("token_ids.ids", prompt)
            return list(prompt)
        if len(prompt) > LONG_TEXT:
            return await asyncio.get_running_loop().run_in_executor(self.long_texts, self.tokenizer.encode, prompt)
        return self.tokenizer.encode(prompt)


class Models:
    """Looks up hosted models, with the tokenizers that they were loaded with.

    A model whose loaded weights are not those that the policy in force pins does not answer: a policy can be
    changed while the server runs, weights cannot.
    """

    def __init__(
        self, engines: Engines, tokenizers: Mapping[str, Tokenizer], policy: Callable[[], Policy], keyring: Keyring
    ) -> None:
        self.engines = engines
        self._keyring = keyring
        self._tokenizers = dict(tokenizers)
        self._policy = policy
        self._long_texts = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-texts")

    @property
    def hosted(self) -> tuple[str, ...]:
        """Ids of the models that this process hosts, ready or not."""
        return tuple(self._tokenizers)

    def tokenizer(self, model: str) -> Tokenizer | None:
        """The tokenizer of a model that this process hosts, ready or not."""
        return self._tokenizers.get(model)

    def take_tokenizer(self, model: str, tokenizer: Tokenizer) -> None:
        """Put a hosted model's tokenizer in the place of the one before: that of the files which it is loaded from."""
        self._tokenizers[model] = tokenizer

    def find(self, model: str) -> HostedModel | None:
        """The model, if it answers now."""
        facts = self.engines.facts(model)
        entry = self._policy().models.get(model)
        if facts is None or entry is None or entry.weights_sha256 not in (None, facts.weights_sha256):
            return None
        tokenizer, key = self._tokenizers[model], self._keyring.marks(model)
        end = tokenizer.end_of_text if facts.eos_token_id is None else facts.eos_token_id
        return HostedModel(
            long_texts=self._long_texts,
            id=model,
            tokenizer=tokenizer,
            parameters=facts.parameters,
            context_length=facts.context_length,
            vocabulary_size=facts.vocabulary_size,
            weights_sha256=facts.weights_sha256,
            dtype=facts.dtype,
            end_of_text=facts.vocabulary_size - 1 if end is None else end,  # where GPT-2 has it
            watermark_id=key.id if key is not None else None,
        )

    def state(self, model: str) -> ModelState:
        """Whether the model answers, and else whether it is about to."""
        if self.find(model) is not None:
            return ModelState.READY
        is_to_come = model in self.hosted and model not in self.engines.unloaded
        return ModelState.LOADING if is_to_come else ModelState.UNAVAILABLE

    def weights(self) -> dict[str, str]:
        """The digest of the weights of each model that answers now."""
        found = {model: self.find(model) for model in self.hosted}
        return {model: hosted.weights_sha256 for model, hosted in found.items() if hosted is not None}

    def ready(self, model: str) -> HostedModel:
        """The model. Raises CallRefused (MODEL_NOT_READY) while it does not answer."""
        hosted = self.find(model)
        if hosted is None:
            raise CallRefused(Reason.MODEL_NOT_READY, retry_after_seconds=NOT_READY_RETRY_SECONDS)
        return hosted


@contextmanager
def engine_faults() -> Iterator[None]:
    """Turn an engine that is gone into the refusal that callers see."""
    try:
        yield
    except EngineUnavailable:
        raise CallRefused(Reason.MODEL_NOT_READY, retry_after_seconds=NOT_READY_RETRY_SECONDS) from None
    except EngineLost as error:
        raise CallRefused(Reason.ENGINE_LOST, retry_after_seconds=NOT_READY_RETRY_SECONDS) from error
