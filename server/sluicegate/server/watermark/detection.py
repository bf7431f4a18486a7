"""The detector: how much more often than by chance a text's tokens have ones, and how likely that is without a mark.

The statistic is the weighted mean of the g-values (Dathathri et al. 2024): early layers count more, since in a
tournament they have more to choose from. Its distribution without a mark is known from the key itself: a token's score
is a function of its state, and the states of different contexts are as good as random, so the mean and the variance
over all states are those of a token that knows nothing of the key. It was not fitted to any text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sluicegate.server.watermark.scheme import DEPTH, NGRAM, TABLE_SIZE, Scheme, hash_contexts, states_of

LEAST_TOKENS = 50
"""Of a text that can be judged; of these the first four have no context."""

LEAST_SCORED = LEAST_TOKENS - (NGRAM - 1)

WEIGHTS = np.linspace(10, 1, DEPTH) / np.linspace(10, 1, DEPTH).sum()
"""Of the layers, as in the reference implementation of the paper (google-deepmind/synthid-text, detector_mean.py)."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one key says of one text.

    `scored`: tokens that count, those whose context was not in the text before; `mean`: of their weighted g-values, 0.5
    without a mark; `p_value`: the probability of such a mean or a higher one without a mark, 1 where nothing counts.
    """

    scored: int
    mean: float
    p_value: float

    @property
    def is_enough(self) -> bool:
        """Whether the text is long enough, and does not only repeat itself."""
        return self.scored >= LEAST_SCORED


class Detector:
    """Measures texts under one key. Stateless after its making; safe to call from any thread."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        scores = self._scores(np.arange(TABLE_SIZE, dtype=np.int64))
        self._mean, self._deviation = float(scores.mean()), float(scores.std())

    def measure(self, ids: Sequence[int]) -> Measurement:
        """Measure a text by its tokens.

        Each state counts once: two n-grams that share one say the same twice, as does a context that comes again. So
        scores are drawn from the table without putting back, and the sum varies no more than the normal
        approximation says.
        """
        if len(ids) < NGRAM:
            return Measurement(0, 0.5, 1.0)
        tokens = np.asarray(ids, dtype=np.int64)
        contexts, first = np.unique(hash_contexts(tokens), return_index=True)
        scores = self._scores(np.unique(states_of(contexts, tokens[NGRAM - 1 :][first])))
        excess = float((scores - self._mean).mean())
        deviations = excess / (self._deviation / math.sqrt(len(scores)))
        return Measurement(len(scores), 0.5 + excess, math.erfc(deviations / math.sqrt(2)) / 2)

    def _scores(self, states: NDArray[np.int64]) -> NDArray[np.float64]:
        values = self._scheme.values(states)
        scores = np.zeros(len(values))
        for layer, weight in enumerate(WEIGHTS):
            scores += weight * ((values >> np.uint32(layer)) & np.uint32(1))
        return scores


def corrected(p_values: Iterable[float], tests: int) -> list[float]:
    """P-values of one text under several keys, each as that of the best of so many tests (Šidák 1967)."""
    return [-math.expm1(tests * math.log1p(-p)) if p < 1 else 1.0 for p in p_values]
