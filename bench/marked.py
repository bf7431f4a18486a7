"""Writes texts with a model and looks at them: the hands of bench.watermark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray
from torch import Tensor

from sluicegate.server.demo.world import MODELS_DIRECTORY
from sluicegate.server.engine.messages import Load, Sampling
from sluicegate.server.engine.messages import WatermarkKey as LoadedKey
from sluicegate.server.engine.runner import Chunk, ModelFacts, Runner
from sluicegate.server.gpt2.batch import lay_out
from sluicegate.server.gpt2.config import load_config
from sluicegate.server.gpt2.loading import load_runner
from sluicegate.server.gpt2.network import Network
from sluicegate.server.gpt2.weights import load_weights
from sluicegate.server.tokenizer import Tokenizer
from sluicegate.server.watermark import MOST_CANDIDATES, Detector, WatermarkKey

SLOTS = 32


@dataclass(frozen=True, slots=True)
class Found:
    """In how many of some texts a mark was found."""

    texts: int
    found: int

    @property
    def rate(self) -> float:
        """As evidence has it."""
        return round(self.found / self.texts, 6)


@dataclass(frozen=True, slots=True)
class Writer:
    """A model that writes, with its tokenizer, and the directory of its checkpoint."""

    runner: Runner
    tokenizer: Tokenizer
    directory: Path

    @property
    def facts(self) -> ModelFacts:
        return self.runner.facts

    def texts(self, prompts: Sequence[list[int]], sampling: Sampling, count: int, tokens: int) -> list[list[int]]:
        """So many texts of so many tokens, each behind a prompt and with a seed of its own; end-of-text is a token."""
        found: list[list[int]] = []
        chosen = list(islice(cycle(prompts), count))
        for first in range(0, count, SLOTS):
            group = chosen[first : first + SLOTS]
            seeds = range(first, first + len(group))
            found += self._write(group, [structs.replace(sampling, seed=seed) for seed in seeds], tokens)
        return found

    def steps(self, sampling: Sampling, rows: int, steps: int, clock: Callable[[], float]) -> float:
        """How long so many decode steps of so many streams take, behind the one that reads their prompts."""
        times: list[float] = []
        prompts = torch.randint(
            0, self.facts.vocabulary_size, (rows, SLOTS), generator=torch.Generator().manual_seed(1)
        )
        samplings = [structs.replace(sampling, seed=seed) for seed in range(rows)]
        self._write(prompts.tolist(), samplings, steps + 1, lambda: times.append(clock()))
        return times[-1] - times[0]

    def _write(
        self,
        prompts: Sequence[list[int]],
        samplings: Sequence[Sampling],
        tokens: int,
        after_step: Callable[[], object] = lambda: None,
    ) -> list[list[int]]:
        output: list[list[int]] = [[] for _ in prompts]
        unfed, fed = list(prompts), [0] * len(prompts)
        for slot, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True)):
            self.runner.open(slot, sampling, 0, prompt)
        for _ in range(tokens):
            chunks = [Chunk(slot, fed[slot], unfed[slot], samples=True) for slot in range(len(prompts))]
            for slot, outcome in enumerate(self.runner.run(chunks)):
                fed[slot] += len(unfed[slot])
                unfed[slot] = [outcome.drawn[0].id]
                output[slot] += unfed[slot]
            after_step()
        for slot in range(len(prompts)):
            self.runner.close(slot)
        return output


def open_writer(model: str, key: WatermarkKey, directory: Path | None = None, *, slots: int = SLOTS) -> Writer:
    """A demo model, or the checkpoint of that directory, on the CPU in float32."""
    path = directory or MODELS_DIRECTORY / model
    load = Load(
        model=model,
        directory=str(path),
        weights_sha256=None,
        device="cpu",
        dtype="float32",
        slots=slots,
        step_tokens=1 << 16,
        watermark=LoadedKey(key.layers, key.table_seed),
    )
    return Writer(load_runner(load), Tokenizer.load(path), path)


def found_in(detector: Detector, tokenizer: Tokenizer, texts: Sequence[list[int]], rate: float) -> Found:
    """In how many of the texts the mark is found at this false positive rate, after decoding and tokenizing anew."""
    anew = (tokenizer.encode(tokenizer.decode(text).decode(errors="replace")) for text in texts)
    return Found(len(texts), sum(detector.measure(ids).p_value <= rate for ids in anew))


def entropies(writer: Writer, texts: Sequence[list[int]], temperature: float) -> NDArray[np.float64]:
    """Mean entropy of what each text's tokens were drawn from, nats: among MOST_CANDIDATES, at this temperature."""
    found = []
    for logits, _ in _rescored(writer, texts):
        top = logits.topk(min(MOST_CANDIDATES, logits.shape[1])).values / temperature
        log_p = top.log_softmax(-1)
        found.append(-(log_p.exp() * log_p).sum(-1).mean().item())
    return np.array(found)


def surprises(
    writer: Writer, texts: Sequence[list[int]], caps: Sequence[int]
) -> tuple[NDArray[np.float64], dict[int, float]]:
    """Each text's mean surprise under the model, nats a token; and the mean probability beyond so many candidates."""
    means: list[float] = []
    tails: dict[int, list[float]] = {cap: [] for cap in caps}
    for logits, ids in _rescored(writer, texts):
        log_p = logits.log_softmax(-1)
        means.append(-log_p.gather(-1, ids[:, None]).mean().item())
        ordered = log_p.exp().sort(-1, descending=True).values.cumsum(-1)
        for cap in caps:
            tails[cap].append(1 - ordered[:, min(cap, logits.shape[1]) - 1].mean().item())
    return np.array(means), {cap: float(np.mean(values)) for cap, values in tails.items()}


def _rescored(writer: Writer, texts: Sequence[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The logits (float64 [tokens - 1, vocabulary]) that each text's second token and those behind it came from."""
    config = load_config(writer.directory)
    network = Network(config, load_weights(writer.directory, config, torch.float32, torch.device("cpu"), None).tensors)
    cache = network.new_cache(1)
    for text in texts:
        with torch.inference_mode():
            batch = lay_out([Chunk(0, 0, text[:-1], samples=False)], network.device)
            logits = network.logits(network.forward(batch, cache)).double()
        yield logits, torch.tensor(text[1:])
