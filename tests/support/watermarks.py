"""A watermark key for tests, and transformers' side of the same one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.generation.logits_process import SynthIDTextWatermarkLogitsProcessor

from sluicegate.server.watermark import Contexts, Scheme, play, states_of
from sluicegate.server.watermark.keys import KIND
from sluicegate.server.watermark.scheme import DEPTH, NGRAM, TABLE_SIZE

HISTORY = 1024


def key_of(seed: int) -> tuple[tuple[int, ...], int]:
    """Layer keys of full range and a table seed."""
    numbers = np.random.default_rng(seed).integers(0, 2**63 - 1, DEPTH + 1, dtype=np.int64).tolist()
    return tuple(numbers[:DEPTH]), numbers[DEPTH] % 2**32


def write_keys(directory: Path, *models: str) -> None:
    """A file for each, of the model's next epoch. The secrets are fixed: what chance brings is the same in each run."""
    directory.mkdir()
    epochs: Counter[str] = Counter()
    for number, model in enumerate(models):
        epochs[model] += 1
        key = {"kind": KIND, "model": model, "epoch": epochs[model], "secret": f"{number:064x}"}
        path = directory / f"{number}.json"
        path.write_text(json.dumps(key))
        path.chmod(0o600)


@cache
def scheme_of(seed: int) -> Scheme:
    """The scheme of a key."""
    return Scheme(*key_of(seed))


def marked_text(scheme: Scheme, tokens: int, vocabulary: Sequence[int], seed: int = 0) -> list[int]:
    """Text of a model that holds 40 random tokens of equal chance for the next one, always."""
    random, contexts = np.random.default_rng(seed), Contexts([1, 2, 3, 4])
    output: list[int] = []
    while len(output) < tokens:
        ids = random.choice(vocabulary, (1, 40), replace=False)
        chances = np.full(ids.shape, 1 / 40)
        if (context := contexts.next) is not None:
            chances = play(chances, scheme.values(states_of(np.array([[context]], dtype=np.uint64), ids)))
        output.append(int(random.choice(ids[0], p=chances[0] / chances[0].sum())))
        contexts.put(len(output) - 1, output[-1:])
    return output


def processor_of(seed: int) -> Any:
    """transformers' processor of the same key."""
    layers, table_seed = key_of(seed)
    return SynthIDTextWatermarkLogitsProcessor(
        ngram_len=NGRAM,
        keys=list(layers),
        sampling_table_size=TABLE_SIZE,
        sampling_table_seed=table_seed,
        context_history_size=HISTORY,
        device=torch.device("cpu"),
    )
