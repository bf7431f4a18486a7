"""TorchRunner: executes the engine's steps for one GPT-2 with torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from sluicegate.server.engine.errors import ModelLoadError, StepOutOfMemory
from sluicegate.server.engine.messages import Sampling, WatermarkKey
from sluicegate.server.engine.runner import Chunk, Drawn, ModelFacts, Outcome, accepted
from sluicegate.server.gpt2.batch import Batch, Span, lay_out
from sluicegate.server.gpt2.cache import slot_bytes
from sluicegate.server.gpt2.config import Gpt2Config
from sluicegate.server.gpt2.errors import NonFiniteError, NonFiniteRows
from sluicegate.server.gpt2.logprobs import TopLogprobs, log_probabilities
from sluicegate.server.gpt2.marks import build_scheme
from sluicegate.server.gpt2.memory import free_bytes, ran_out_of_memory
from sluicegate.server.gpt2.sampler import Draws, Sampler
from sluicegate.server.watermark import Scheme

# Logits of at most this many scored positions exist at once: 26 MB for GPT-2's vocabulary in float32.
SCORED_ROWS = 128


class KvCache(Protocol):
    """What the runner needs of a network's cache: cache.Cache, packed.PackedCache."""

    @property
    def slots(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of slot `source` into slot `target`."""

    def clear(self, slot: int) -> None:
        """Zero a slot."""


class ForwardPass(Protocol):
    """What the runner needs of a network: network.Network, packed.PackedNetwork."""

    @property
    def config(self) -> Gpt2Config: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def new_cache(self, slots: int) -> Any:
        """An empty cache, a KvCache, for this network."""

    def forward(self, batch: Batch, cache: Any) -> Tensor:
        """Feed the batch into `cache`, one of the network's own; the final hidden [rows, width]."""

    def logits(self, rows: Tensor) -> Tensor:
        """float32 [rows, vocabulary] of final hidden rows [rows, width]; the caller owns the result."""

    def draw(self, rows: Tensor, draws: Draws) -> list[Drawn]:
        """A token for each final hidden row [rows, width]. Raises NonFiniteRows."""


@contextmanager
def memory_errors(chunks: Sequence[Chunk], device: torch.device) -> Iterator[None]:
    """Turn the errors of torch that say so into StepOutOfMemory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        tokens = sum(chunk.length for chunk in chunks)
        raise StepOutOfMemory(f"no memory on {device} for a step of {tokens} tokens") from error


class TorchRunner:
    """`engine.runner.Runner` over a network and its cache. Engine thread only.

    If `run` raises a StepError, nothing was drawn, and what the step wrote into the cache and counted for penalties is
    what running it again would: the engine may drop the sequences in `error.slots` and run the others' chunks again.
    So it is with StepOutOfMemory, after which it may run any of them.
    """

    def __init__(
        self, network: ForwardPass, cache: KvCache, facts: ModelFacts, watermark: Scheme | None = None
    ) -> None:
        self._network = network
        self._cache = cache
        self._facts = facts
        config = network.config
        self._sampler = Sampler(cache.slots, config.context_length, config.vocabulary_size, watermark)

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    @property
    def sampler(self) -> Sampler:
        """The parameters of the slots that are open."""
        return self._sampler

    def twin(self, slots: int, watermark: WatermarkKey | None) -> TorchRunner:
        network = self._network
        needed, free = slots * slot_bytes(network.config, network.dtype), free_bytes(network.device)
        try:
            if free is not None and needed > free:
                raise MemoryError
            cache: KvCache = network.new_cache(slots)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            problem = f"no memory on {network.device} for {slots} slots of its own, {needed >> 20} MiB"
            raise ModelLoadError(f"{problem}; ask for fewer slots") from error
        facts = replace(self._facts, slots=slots, cache_bytes=cache.nbytes)
        return TorchRunner(network, cache, facts, build_scheme(watermark))

    def open(self, slot: int, sampling: Sampling | None, candidate: int, prompt: Sequence[int]) -> None:
        if sampling is not None:
            self._sampler.open(slot, sampling, candidate, prompt)

    def copy(self, source: int, target: int, length: int) -> None:
        self._cache.copy(source, target, length)

    def close(self, slot: int) -> None:
        self._sampler.close(slot)

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        """One forward pass. Raises NonFiniteError, which names the slots at fault, and StepOutOfMemory.

        The cache has its memory since the model was loaded; it is activations and logits that may find none.
        """
        with memory_errors(chunks, self._network.device):
            return self._run(chunks)

    def _run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        if not chunks:
            return []
        # The scheduler refuses such requests; an id that slipped through would stop a CUDA device for good.
        size = self._network.config.vocabulary_size
        assert all(min(chunk.ids) >= 0 and max(chunk.ids) < size for chunk in chunks)
        assert all(min(chunk.targets) >= 0 and max(chunk.targets) < size for chunk in chunks if chunk.targets)
        assert all(chunk.drafted < len(chunk.ids) for chunk in chunks if chunk.samples)
        batch = lay_out(chunks, self._network.device)
        hidden = self._network.forward(batch, self._cache)
        if not all(chunk.samples for chunk in chunks):  # else the draws tell: their rows have attended to all others
            self._check_finite(hidden, batch.slots)
        outcomes = [
            self._score(hidden, chunk, span) if chunk.targets else Outcome()
            for chunk, span in zip(chunks, batch.spans, strict=True)
        ]
        for chunk in chunks:
            self._sampler.feed(chunk.slot, chunk.start, chunk.given)
        sampling = [index for index, chunk in enumerate(chunks) if chunk.samples]
        if sampling:
            spans = [batch.spans[index] for index in sampling]
            for index, drawn in zip(sampling, self.draw(hidden, [chunks[i] for i in sampling], spans), strict=True):
                outcomes[index] = replace(outcomes[index], drawn=drawn, drafted=chunks[index].drafted)
        return outcomes

    def draw(self, hidden: Tensor, chunks: Sequence[Chunk], spans: Sequence[Span]) -> Iterator[Sequence[Drawn]]:
        """Each chunk's tokens, of its last rows: one behind what is given, and one behind each draft."""
        last: list[int] = []
        slots: list[int] = []
        positions: list[int] = []
        drafts: dict[int, Sequence[int]] = {}
        for chunk, span in zip(chunks, spans, strict=True):
            last += range(span.last - 1 - chunk.drafted, span.last)
            position = chunk.start + len(chunk.ids) - chunk.drafted
            for number in range(1, chunk.drafted + 1):
                drafts[len(slots) + number] = chunk.drafts[:number]
            slots += [chunk.slot] * (chunk.drafted + 1)
            positions += range(position, position + chunk.drafted + 1)
        rows = hidden if last == list(range(len(hidden))) else hidden[last]
        try:
            drawn_rows = self._network.draw(rows, self._sampler.draws(slots, positions, drafts))
        except NonFiniteRows as error:
            raise self.give_up({slots[row] for row in error.rows}) from error
        drawn_in_order = iter(drawn_rows)
        for chunk in chunks:
            drawn = accepted(chunk.drafts, list(islice(drawn_in_order, chunk.drafted + 1)))
            if len(drawn) > 1:
                self._sampler.feed(chunk.slot, chunk.start + len(chunk.given), chunk.drafts[: len(drawn) - 1])
            yield drawn

    @torch.inference_mode()
    def _score(self, hidden: Tensor, chunk: Chunk, span: Span) -> Outcome:
        """Log-probabilities of the chunk's targets, in blocks that bound the memory of their logits."""
        logprobs: list[float] = []
        top: list[TopLogprobs] = []
        rows = hidden[span.first : span.first + len(chunk.targets)]
        targets = torch.tensor(chunk.targets, device=hidden.device)
        for block, ids in zip(torch.split(rows, SCORED_ROWS), torch.split(targets, SCORED_ROWS), strict=True):
            logits = self._network.logits(block)
            self._check_finite(logits, torch.full_like(ids, span.slot))
            chosen, likeliest = log_probabilities(logits, ids, chunk.score_top)
            logprobs += chosen
            top += likeliest
        return Outcome(logprobs=logprobs, top=top)

    def _check_finite(self, rows: Tensor, slots: Tensor) -> None:
        """Raise NonFiniteError, its slots wiped, unless all `rows` ([rows, any]) are finite."""
        finite = rows.sum(-1, dtype=torch.float32).isfinite()
        if not finite.all():
            raise self.give_up(set(slots[~finite].tolist()))

    def give_up(self, slots: set[int]) -> NonFiniteError:
        """Wipe slots whose sequences are lost; the error that says so."""
        damaged = sorted(slots)
        for slot in damaged:
            self._cache.clear(slot)
        return NonFiniteError(f"the model's output is NaN or infinite in slots {damaged}", damaged)
