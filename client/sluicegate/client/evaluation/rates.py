"""Rates and tests, by scipy."""

from __future__ import annotations

from scipy.stats import binomtest

from sluicegate.evidence.form import CONFIDENCE, Interval

_DECIMALS = 6
_DIGITS = 6


def interval(successes: int, trials: int) -> Interval:
    """The 95 % interval of Clopper and Pearson (1934); at least one trial."""
    found = binomtest(successes, trials).proportion_ci(confidence_level=CONFIDENCE, method="exact")
    return Interval(
        confidence=CONFIDENCE, low=round(float(found.low), _DECIMALS), high=round(float(found.high), _DECIMALS)
    )


def mcnemar(only_this: int, only_other: int) -> float:
    """The two-sided p-value of the exact McNemar test on discordant pairs, to 6 digits; 1 for none."""
    discordant = only_this + only_other
    if not discordant:
        return 1.0
    return float(f"{float(binomtest(only_this, discordant, 0.5).pvalue):.{_DIGITS}g}")
