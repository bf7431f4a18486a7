"""Whether figures that follow from counts are those of the counts. They are computed elsewhere, by scipy."""

from __future__ import annotations

import math

_ROUNDING = 1e-6
"""Of a rate in a file: a little more than the half of its last decimal."""
_DIGITS = 1e-5
"""Relative, of a p-value in a file."""
_NEGLIGIBLE = 1e-17


def upper_tail(successes: int, trials: int, rate: float) -> float:
    """P(X >= successes) for X of the binomial distribution; meant for few successes less than are likely."""
    if successes <= 0 or rate >= 1:
        return 1.0
    if rate <= 0:
        return 0.0
    log_term = (
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(rate)
        + (trials - successes) * math.log1p(-rate)
    )
    term = total = math.exp(log_term)
    for count in range(successes, trials):
        term *= (trials - count) / (count + 1) * rate / (1 - rate)
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return min(total, 1.0)


def is_interval(low: float, high: float, confidence: float, successes: int, trials: int) -> bool:
    """Whether this is the interval of Clopper and Pearson (1934) of successes / trials, but for rounding."""
    half = (1 - confidence) / 2
    failures = trials - successes
    return _is_bound(low, half, successes, trials) and _is_bound(1 - high, half, failures, trials)


def is_mcnemar(p_value: float, one: int, other: int) -> bool:
    """Whether this is the two-sided p-value of the exact McNemar test (1947) on these discordant pairs."""
    expected = min(1.0, 2 * upper_tail(max(one, other), one + other, 0.5)) if one + other else 1.0
    return math.isclose(p_value, expected, rel_tol=_DIGITS)


def _is_bound(rate: float, half: float, successes: int, trials: int) -> bool:
    """Whether `rate` is the lower bound: as many successes, or more, are seen with probability `half` there."""
    if successes == 0:
        return rate <= _ROUNDING
    below, above = upper_tail(successes, trials, rate - _ROUNDING), upper_tail(successes, trials, rate + _ROUNDING)
    return below <= half <= above
