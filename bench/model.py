"""What a decode step should cost: weights and cache read once, and products no faster than the machine multiplies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.limits import BYTES, Limits
from bench.work import Shape


@dataclass(frozen=True, slots=True)
class Point:
    """The median duration of decode steps with `batch` rows, each with `context` tokens in its cache on average."""

    batch: int
    context: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StepModel:
    """The floor of a step. `cache_bytes`: of one token's keys and values in all layers."""

    shape: Shape
    format: str
    cache_bytes: float
    limits: Limits

    def seconds(self, batch: int, context: int) -> float:
        """Linears and LM head take the longer of reading and multiplying; attention reads, and its products are few."""
        return sum(self.product_seconds(weights, batch) for weights in self._weights) + self.attention_seconds(
            batch, context
        )

    @property
    def _weights(self) -> tuple[int, int]:
        return self.shape.layer_weights, self.shape.head_weights

    def product_seconds(self, weights: int, rows: int) -> float:
        """Of so many weights' products with so many rows."""
        reading = weights * BYTES[self.format] / self.limits.read_bytes_per_second
        rate = self.limits.flops_per_second.get(self.format)
        return reading if rate is None else max(reading, 2 * weights * rows / rate)

    def attention_seconds(self, batch: int, context: int) -> float:
        return batch * context * self.cache_bytes / self.limits.read_bytes_per_second


@dataclass(frozen=True, slots=True)
class Growth:
    """Least squares of measured steps: `fixed` + `row` * batch + `position` * batch * context, in seconds.

    `explained`: share of the variance that the three account for (R squared). Near 1, a step's cost grows as the
    model says, whatever the distance from its floor.
    """

    fixed: float
    row: float
    position: float
    explained: float


def growth(points: Sequence[Point]) -> Growth:
    """Of at least three points with different batches and contexts. Steps count by their share of their own duration,
    else the longest would decide alone."""
    terms = np.array([(1.0, point.batch, point.batch * point.context) for point in points])
    seconds = np.array([point.seconds for point in points])
    solution = np.linalg.lstsq(terms / seconds[:, None], np.ones(len(points)), rcond=None)[0]
    left = seconds - terms @ solution
    explained = 1 - float(left @ left) / float(((seconds - seconds.mean()) ** 2).sum())
    fixed, row, position = map(float, solution)
    return Growth(fixed, row, position, explained)
