"""Values in buckets: quantiles of any number of them in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

BUCKETS_PER_DOUBLING = 128
RELATIVE_ERROR = 1 / (2 * BUCKETS_PER_DOUBLING)
"""Half a bucket's width over its lower edge: the most by which a quantile differs from the value that it stands for."""
SMALLEST = 2.0**-20
"""What is below this is counted as 0: of seconds, a microsecond."""


@dataclass(slots=True)
class Histogram:
    """Counts of values of 0 or more, in buckets whose width grows with the value (log-linear, as HdrHistogram's).

    A second's worth and a day's worth of values take the same memory: 128 buckets for each doubling that occurs. Count,
    total, least and most are exact.
    """

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = 0.0
    _buckets: Counter[int | None] = field(default_factory=Counter)

    def record(self, value: float, times: int = 1) -> None:
        """Count a value so many times. AssertionError for one below 0."""
        assert value >= 0, "a value is below 0"
        self.count += times
        self.total += value * times
        self.least, self.most = min(self.least, value), max(self.most, value)
        self._buckets[_bucket(value)] += times

    def add(self, other: Self) -> None:
        """Count all values of the other too."""
        self.count += other.count
        self.total += other.total
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        self._buckets.update(other._buckets)

    @property
    def mean(self) -> float | None:
        """None without values."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The smallest value that at least `share` (0..1) of the values do not exceed, but for RELATIVE_ERROR.

        The inverse of the empirical distribution function (Hyndman and Fan 1996, definition 1). The least and the most
        are exact. None without values.
        """
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count))
        if rank == self.count:
            return self.most
        if rank == 1:
            return self.least
        for bucket in sorted(self._buckets, key=lambda each: -math.inf if each is None else each):
            rank -= self._buckets[bucket]
            if rank <= 0:
                break
        return min(max(_middle(bucket), self.least), self.most)


def _bucket(value: float) -> int | None:
    """The number of the value's bucket; None of those that count as 0."""
    if value < SMALLEST:
        return None
    mantissa, exponent = math.frexp(value)  # the mantissa is 0.5 or more, and below 1
    return exponent * BUCKETS_PER_DOUBLING + int((mantissa * 2 - 1) * BUCKETS_PER_DOUBLING)


def _middle(bucket: int | None) -> float:
    if bucket is None:
        return 0.0
    exponent, part = divmod(bucket, BUCKETS_PER_DOUBLING)
    return math.ldexp(1 + (part + 0.5) / BUCKETS_PER_DOUBLING, exponent - 1)
