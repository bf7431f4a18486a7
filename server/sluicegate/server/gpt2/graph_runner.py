"""GraphRunner: executes the engine's steps on a device that works by itself, each launched before the last is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sluicegate.server.engine.messages import Sampling, WatermarkKey
from sluicegate.server.engine.runner import Chunk, Drawn, ModelFacts, Outcome
from sluicegate.server.gpt2.adjustments import Adjustments
from sluicegate.server.gpt2.batch import Span, lay_out
from sluicegate.server.gpt2.cache import Cache
from sluicegate.server.gpt2.device import Device, Mark, upload
from sluicegate.server.gpt2.graphs import DecodeGraphs
from sluicegate.server.gpt2.network import Network
from sluicegate.server.gpt2.runner import TorchRunner, memory_errors
from sluicegate.server.gpt2.static_draws import RESULT, ROW, Reach
from sluicegate.server.gpt2.table import Table, as_bytes


class GraphRunner:
    """`engine.runner.OverlappingRunner` over a network, its cache and their graphs. Engine thread only.

    A step has three parts. Chunks of one token go through the graphs. Longer ones of prompts are fed beside them, at
    the same time. What is left, and rows whose tokens only the host can draw (penalties, biases, typical-p,
    watermark, alternatives), is done when the result is asked for; such a step does not feed back.
    """

    def __init__(self, network: Network, cache: Cache, plain: TorchRunner, device: Device) -> None:
        """`plain`: over the same network and cache, which has one slot more than `plain.facts` say.

        Records the graphs, which takes some seconds.
        """
        self._network = network
        self._cache = cache
        self._device = device
        self._plain = plain
        self._graphs = DecodeGraphs(network, cache, device)
        self._graphs.capture()
        self._reaches: dict[int, Reach] = {}  # of slots whose tokens the device draws
        self._wants_logprob: set[int] = set()

    @property
    def facts(self) -> ModelFacts:
        return self._plain.facts

    def twin(self, slots: int, watermark: WatermarkKey | None) -> TorchRunner:
        """Without graphs, and so not overlapped: drafts are made and checked step by step."""
        return self._plain.twin(slots, watermark)

    def open(self, slot: int, sampling: Sampling | None, candidate: int, prompt: Sequence[int]) -> None:
        self._plain.open(slot, sampling, candidate, prompt)
        if sampling is not None and (reach := _reach(sampling)) is not None:
            self._reaches[slot] = reach
            if sampling.logprobs is not None:
                self._wants_logprob.add(slot)

    def copy(self, source: int, target: int, length: int) -> None:
        self._plain.copy(source, target, length)

    def close(self, slot: int) -> None:
        self._plain.close(slot)
        self._reaches.pop(slot, None)
        self._wants_logprob.discard(slot)

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        """Launch a step and wait for it. Raises NonFiniteError and StepOutOfMemory, as TorchRunner."""
        outcomes = self.launch(chunks).result()
        void = [index for index, outcome in enumerate(outcomes) if outcome.is_void]
        if void:  # the same again, which now looks further
            for index, outcome in zip(void, self.run([chunks[index] for index in void]), strict=True):
                outcomes[index] = outcome
        return outcomes

    def launch(self, chunks: Sequence[Chunk]) -> GraphFlight:
        """Begin a step. Raises StepOutOfMemory."""
        with memory_errors(chunks, self._network.device):
            return self._launch(chunks)

    @torch.inference_mode()
    def _launch(self, chunks: Sequence[Chunk]) -> GraphFlight:
        # The scheduler refuses such requests; an id that slipped through would stop a CUDA device for good.
        size = self._network.config.vocabulary_size
        assert all(0 <= id_ < size for chunk in chunks for id_ in (*chunk.ids, *chunk.targets))
        parts = _Parts()
        for index, chunk in enumerate(chunks):
            if chunk.targets or chunk.drafted or (chunk.samples and chunk.length > 1 and not self._draws(chunk)):
                parts.others.append(index)
            elif chunk.length > 1:
                parts.prompts.append(index)
            else:
                parts.decodes.append(index)
        begin, finite = self._device.mark(), None
        try:
            if parts.prompts:
                with self._device.beside():
                    finite = self._feed_prompts([chunks[index] for index in parts.prompts])
            if parts.decodes:
                self._decode([chunks[index] for index in parts.decodes])
        finally:  # also of a step that cannot be launched whole
            self._device.join()
        landed = _Landed(
            results=self._device.download(self._graphs.results.data),
            finite=None if finite is None else self._device.download(finite),
        )
        by_host = [index for index in parts.decodes if chunks[index].samples and not self._draws(chunks[index])]
        return GraphFlight(
            feeds_back=not parts.others and not by_host,
            device=self._device,
            begin=begin,
            end=self._device.mark(),
            take=lambda: self._take(chunks, parts, by_host, landed),
        )

    def _draws(self, chunk: Chunk) -> bool:
        """Whether the device draws for it."""
        return chunk.slot in self._reaches

    def _decode(self, chunks: Sequence[Chunk]) -> None:
        size = self._graphs.feed(self._rows(chunks))
        self._graphs.forward(size, max(chunk.end for chunk in chunks))
        self._graphs.draw(size, self._reach_of(chunks))

    def _feed_prompts(self, chunks: Sequence[Chunk]) -> Tensor:
        """Feed longer chunks; draw for those that end a prompt. Whether each of their rows is finite, bool [rows]."""
        batch = lay_out(chunks, self._network.device)
        hidden = self._network.forward(batch, self._cache)
        ending = [index for index, chunk in enumerate(chunks) if chunk.samples]
        if ending:
            drawing = [chunks[index] for index in ending]
            last = torch.tensor([batch.spans[index].last - 1 for index in ending])
            rows = torch.from_numpy(as_bytes(self._rows(drawing)))
            table = Table(ROW, upload(rows, self._network.device))
            self._graphs.draw_others(hidden[upload(last, self._network.device)], table, self._reach_of(drawing))
        return hidden.sum(-1, dtype=torch.float32).isfinite()

    def _rows(self, chunks: Sequence[Chunk]) -> NDArray[np.void]:
        """ROW of each chunk's last token."""
        rows = np.zeros(len(chunks), ROW)
        rows["fed_id"] = [0 if chunk.awaits else chunk.ids[-1] for chunk in chunks]
        rows["fed_position"] = [chunk.end - 1 for chunk in chunks]
        rows["slot"] = slots = [chunk.slot for chunk in chunks]
        rows["is_awaited"] = [chunk.awaits for chunk in chunks]
        rows["parameters"] = self._plain.sampler.draws(slots, [chunk.end for chunk in chunks]).parameters
        return rows

    def _reach_of(self, chunks: Sequence[Chunk]) -> Reach:
        """How far a draw for all of these must look."""
        reaches = (self._reaches[chunk.slot] for chunk in chunks if chunk.samples and self._draws(chunk))
        return max(reaches, default=Reach.LIKELIEST)

    # What comes of a step

    def _take(self, chunks: Sequence[Chunk], parts: _Parts, by_host: Sequence[int], landed: _Landed) -> list[Outcome]:
        """The outcomes of a step that is over. Raises as `run`."""
        with memory_errors(chunks, self._network.device), torch.inference_mode():
            rows, results = self._result_rows(chunks, parts), landed.rows()
            self._check_finite(chunks, parts, rows, landed)
            outcomes = [Outcome()] * len(chunks)
            for index in (*parts.decodes, *parts.prompts):
                chunk = chunks[index]
                self._plain.sampler.feed(chunk.slot, chunk.start, chunk.ids)
                if chunk.samples and self._draws(chunk):
                    outcomes[index] = self._outcome(chunk.slot, results[rows[index]])
            if by_host:
                drawing = [chunks[index] for index in by_host]
                spans = [
                    Span(rows[index], rows[index] + 1, chunks[index].slot, chunks[index].start) for index in by_host
                ]
                drawn = self._plain.draw(self._graphs.hidden, drawing, spans)
                for index, tokens in zip(by_host, drawn, strict=True):
                    outcomes[index] = Outcome(tokens)
            others = self._plain.run([chunks[index] for index in parts.others])
            for index, outcome in zip(parts.others, others, strict=True):
                outcomes[index] = outcome
            return outcomes

    def _result_rows(self, chunks: Sequence[Chunk], parts: _Parts) -> dict[int, int]:
        """Where in the results each chunk that may have one has it."""
        ending = [index for index in parts.prompts if chunks[index].samples]
        rows = {index: row for row, index in enumerate(parts.decodes)}
        return rows | {index: self._graphs.slots + row for row, index in enumerate(ending)}

    def _check_finite(self, chunks: Sequence[Chunk], parts: _Parts, rows: Mapping[int, int], landed: _Landed) -> None:
        """Raise NonFiniteError, its slots wiped, unless all that was fed and drawn is finite."""
        results = landed.rows()
        damaged = {chunks[index].slot for index, row in rows.items() if not results[row]["is_finite"]}
        if landed.finite is not None:
            lengths = [chunks[index].length for index in parts.prompts]
            for index, finite in zip(parts.prompts, torch.split(landed.finite, lengths), strict=True):
                if not finite.all():
                    damaged.add(chunks[index].slot)
        if damaged:
            raise self._plain.give_up(damaged)

    def _outcome(self, slot: int, result: np.void) -> Outcome:
        """Of a token that the device drew, or could not draw among the few that it looked at."""
        if not result["is_settled"]:
            self._reaches[slot] = Reach.ALL
            return Outcome(is_void=True)
        logprob = float(result["logprob"]) if slot in self._wants_logprob else None
        return Outcome([Drawn(int(result["id"]), logprob)])


@dataclass(slots=True)
class GraphFlight:
    """`engine.runner.Flight`. `end`: of what was launched; where it does not feed back, of all when that is taken."""

    feeds_back: bool
    device: Device
    begin: Mark
    end: Mark
    take: Callable[[], list[Outcome]]

    def result(self) -> list[Outcome]:
        self.end.wait()
        outcomes = self.take()
        if not self.feeds_back:  # a good part of its work was done only now, and nothing else was under way
            self.end = self.device.mark()
            self.end.wait()
        return outcomes

    @property
    def seconds(self) -> float:
        return self.end.seconds_since(self.begin)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Indices of a step's chunks."""

    decodes: list[int] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)
    others: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Landed:
    """What a step has copied to the host, to be read when it is over.

    `results`: RESULT as bytes; `finite`: bool [tokens] of the prompts' chunks, one after the other.
    """

    results: Tensor
    finite: Tensor | None

    def rows(self) -> NDArray[np.void]:
        return self.results.numpy().view(RESULT)[:, 0]


def _reach(sampling: Sampling) -> Reach | None:
    """How far a draw must look; None where only the host can draw."""
    if Adjustments.are_needed(sampling) or sampling.logprobs:
        return None
    if sampling.temperature == 0:
        return Reach.LIKELIEST
    if sampling.typical_p < 1 or sampling.watermark:
        return None
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p > 0:
        return Reach.FEW
    return Reach.UNFILTERED
