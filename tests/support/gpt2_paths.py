"""Many short texts from one prompt, how often each came, and how often each should have come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

import torch
from msgspec import structs

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Chunk, Runner
from sluicegate.server.gpt2.batch import lay_out
from sluicegate.server.gpt2.network import Network

Path = tuple[int, ...]


def draw_paths(runner: Runner, prompt: list[int], sampling: Sampling, tokens: int, texts: int) -> Iterator[Path]:
    """The first tokens behind the prompt, for the seeds 0, 1, …; as many at a time as there are slots."""
    slots = runner.facts.slots
    chosen = structs.replace(sampling, max_output_tokens=tokens, ignore_eos=True)
    for first in range(0, texts, slots):
        paths: dict[int, list[int]] = {slot: [] for slot in range(min(slots, texts - first))}
        for slot in paths:
            runner.open(slot, structs.replace(chosen, seed=first + slot), 0, prompt)
        chunks = [Chunk(slot, 0, prompt, samples=True) for slot in paths]
        while chunks:
            for chunk, outcome in zip(chunks, runner.run(chunks), strict=True):
                paths[chunk.slot] += [drawn.id for drawn in outcome.drawn]
            chunks = [
                Chunk(slot, len(prompt) + len(path) - 1, path[-1:], samples=True)
                for slot, path in paths.items()
                if len(path) < tokens
            ]
        for slot, path in paths.items():
            runner.close(slot)
            yield tuple(islice(path, tokens))


@torch.inference_mode()
def path_probabilities(
    network: Network, prompt: list[int], temperature: float, top_k: int, tokens: int
) -> dict[Path, float]:
    """What each path's probability is under temperature and top-k, in float64 over the network's own logits."""
    cache = network.new_cache(1)
    paths: dict[Path, float] = {(): 1.0}
    for _ in range(tokens):
        longer: dict[Path, float] = {}
        for path, probability in paths.items():
            batch = lay_out([Chunk(0, 0, [*prompt, *path], samples=False)], network.device)
            logits = network.logits(network.forward(batch, cache)[-1:])[0].double() / temperature
            values, ids = logits.topk(top_k)
            for id_, share in zip(ids.tolist(), values.softmax(-1).tolist(), strict=True):
                longer[*path, id_] = probability * share
        paths = longer
    return paths


def chi_squared(counts: Counter[Path], probabilities: Mapping[Path, float]) -> tuple[float, int]:
    """Pearson's statistic and its degrees of freedom; paths that are expected less than five times count as one.

    Raises AssertionError for a path that cannot be.
    """
    assert set(counts) <= set(probabilities)
    draws = counts.total()
    cells = [(counts[path], probability * draws) for path, probability in probabilities.items()]
    rare = [cell for cell in cells if cell[1] < 5]
    cells = [cell for cell in cells if cell[1] >= 5]
    if rare:
        cells.append((sum(observed for observed, _ in rare), sum(expected for _, expected in rare)))
    return sum((observed - expected) ** 2 / expected for observed, expected in cells), len(cells) - 1
