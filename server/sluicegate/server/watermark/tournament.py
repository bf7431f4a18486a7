"""The tournament: how g-values change the probabilities of the tokens that could come next.

Non-distortionary, two candidates a match (Dathathri et al. 2024, supplementary information, section on vectorised
sampling): in each layer a token with g = 1 wins against one with g = 0, and of equals each wins half of the time. Over
all keys the probabilities are as before, but for one key those with many ones come more often.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sluicegate.server.watermark.scheme import DEPTH

MOST_CANDIDATES = 256
"""A marked sequence draws among so many of the likeliest tokens at most, whatever its top_k. Over the whole vocabulary
a tournament costs seconds. docs/watermark.md has what this number costs, and what it cuts off."""


def play(probabilities: NDArray[np.float64], values: NDArray[np.uint32]) -> NDArray[np.float64]:
    """The probabilities after all layers: float64 [rows, candidates] of such, each row of which sums to 1.

    `values`: uint32 [rows, candidates], the g-values as Scheme gives them. A row's result depends on nothing but the
    row, and is the same on every device: this runs on the host.
    """
    for layer in range(DEPTH):
        ones = ((values >> np.uint32(layer)) & np.uint32(1)).astype(np.float64)
        mass = (probabilities * ones).sum(-1, keepdims=True)
        probabilities = probabilities * (1 + ones - mass)
    return probabilities
