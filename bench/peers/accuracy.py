"""How far an engine is from transformers in float32, so that speed is compared at known accuracy."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel

from bench.work import VOCABULARY, Request, text

TEXTS, TEXT_TOKENS, LAST = 2, 96, 16
"""What logits are compared on: the rows after the last prefixes of a few texts."""
AGREEMENT_REQUESTS = 8
"""Of a round, whose greedy tokens are looked at."""

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Agreement:
    """`share`: of the engine's tokens, those that float32 would have chosen after the same text. `regret`: by how much
    float32 found its own choice likelier, in nats, on average over all tokens."""

    share: float
    regret: float


class Reference:
    """transformers' GPT-2 in float32, in this process."""

    def __init__(self, checkpoint: Path) -> None:
        logging: Any = transformers.logging
        logging.disable_progress_bar()
        model: Any = GPT2LMHeadModel.from_pretrained(checkpoint, dtype=torch.float32)
        self._model = model.eval()

    @torch.inference_mode()
    def logits(self, texts: Sequence[Sequence[int]], last: int) -> Rows:
        """float32 [texts * last, vocabulary]."""
        rows = [self._model(torch.tensor([list(each)])).logits[0, -last:] for each in texts]
        found: Rows = torch.cat(rows).numpy()
        return found

    @torch.inference_mode()
    def agreement(self, work: Sequence[Request], ids: Sequence[Sequence[int]]) -> Agreement:
        """Of greedy tokens: each is judged after the text that the engine itself had before it, so that one that
        differs does not condemn those that follow."""
        regrets = list[float]()
        for request, row in zip(work[:AGREEMENT_REQUESTS], ids, strict=False):
            whole = torch.tensor([[*request.prompt, *row]])
            logits = self._model(whole[:, :-1]).logits[0, -len(row) :]
            chosen = logits.gather(-1, whole[0, -len(row) :, None])[:, 0]
            regrets += (logits.amax(-1) - chosen).tolist()
        return Agreement(sum(regret == 0 for regret in regrets) / len(regrets), sum(regrets) / len(regrets))


def probes() -> list[list[int]]:
    """The texts that logits are compared on."""
    draws = random.Random(2)  # noqa: S311
    return [text(TEXT_TOKENS, draws) for _ in range(TEXTS)]


def read_rows(path: Path) -> Rows:
    """What an engine wrote."""
    return np.fromfile(path, dtype=np.float32).reshape(-1, VOCABULARY)


def relative_error(rows: Rows, reference: Rows) -> float:
    """Root mean square of the difference over that of the reference, each row less its own mean.

    Thus logits and log-probabilities, which differ by one number a row, give the same.
    """
    if rows.shape != reference.shape:
        raise ValueError(f"rows of shape {rows.shape}, not {reference.shape}")
    centred, true = _centred(rows), _centred(reference)
    return float(np.linalg.norm(centred - true) / np.linalg.norm(true))


def _centred(rows: Rows) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    return exact
