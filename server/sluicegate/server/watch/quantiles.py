"""Quantiles of a histogram's buckets, as Prometheus' `histogram_quantile` estimates them."""

from __future__ import annotations

import math
from collections.abc import Mapping


def quantile(share: float, buckets: Mapping[str, float]) -> float | None:
    """The value below which `share` (0 to 1) of the observations lie; None without observations.

    `buckets`: how many observations were at most `le`, each count with those below it. Inside a bucket they count as
    spread evenly; above the highest bound nothing is known, so that is the answer there. Source: Prometheus,
    promql/quantile.go, bucketQuantile.
    """
    bounds = sorted((bound, count) for le, count in buckets.items() if (bound := _bound(le)) is not None)
    if not bounds or bounds[-1][0] != math.inf or bounds[-1][1] <= 0:
        return None
    rank, below, lower = share * bounds[-1][1], 0.0, 0.0
    for bound, count in bounds:
        if count >= rank and count > below:
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
        if not math.isinf(bound):
            lower, below = bound, max(count, below)  # of pages that were read at different times, a count may fall
    return lower


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if math.isnan(bound) or bound < 0 else bound
