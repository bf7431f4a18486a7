"""What a run came to, as data: for JSON, tables and plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluicegate.client.load.driver import Driver, ServedUnder
from sluicegate.client.load.histogram import Histogram
from sluicegate.client.load.plot import Curve, Series, svg
from sluicegate.client.load.tally import Tally

_SHOWN_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999)
_MARKED_SHARES = {0.0: "0", 0.5: "50", 0.9: "90", 0.99: "99", 0.999: "99.9", 0.9999: "99.99"}
_LEAST_PLOTTED_MS = 1e-3


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of values in the unit that the field's name says; all but the count are None without values.

    Percentiles as Histogram.quantile gives them; the others are exact.
    """

    count: int
    mean: float | None
    least: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    most: float | None

    @classmethod
    def of(cls, values: Histogram) -> Distribution:
        return cls(
            count=values.count,
            mean=values.mean,
            least=values.quantile(0),
            p50=values.quantile(0.5),
            p90=values.quantile(0.9),
            p99=values.quantile(0.99),
            p999=values.quantile(0.999),
            most=values.quantile(1),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """The requests of one model, of one caller, or all; see Tally for what each field means."""

    requests: int
    answered: int
    cancelled: int
    unfinished: int
    refused: Mapping[str, int]
    finish_reasons: Mapping[str, int]
    output_tokens: int
    first_token_seconds: Distribution
    inter_token_seconds: Distribution
    per_output_token_seconds: Distribution
    whole_seconds: Distribution
    queue_seconds: Distribution

    @classmethod
    def of(cls, tally: Tally) -> Row:
        return cls(
            requests=tally.begun,
            answered=tally.answered,
            cancelled=tally.cancelled,
            unfinished=tally.unfinished,
            refused=dict(tally.refused.most_common()),
            finish_reasons=dict(tally.finish_reasons.most_common()),
            output_tokens=tally.output_tokens,
            first_token_seconds=Distribution.of(tally.first_token),
            inter_token_seconds=Distribution.of(tally.inter_token),
            per_output_token_seconds=Distribution.of(tally.per_output_token),
            whole_seconds=Distribution.of(tally.whole),
            queue_seconds=Distribution.of(tally.queue),
        )


@dataclass(frozen=True, slots=True)
class Results:
    """A run's figures, without its warm-up.

    `seconds`: from the end of the warm-up to the end of the given time, or else to the end of the last request; tokens
    and requests per second are those that came in this time, also of requests that began in the warm-up.
    `output_tokens_per_second` is over its whole seconds. `sent_late_seconds`: how much later than due requests were
    sent.
    """

    seconds: float
    mean_output_tokens_per_second: float | None
    output_tokens_per_second: Distribution
    requests_per_second: float | None
    sent_late_seconds: Distribution
    total: Row
    by_model: Mapping[str, Row]
    by_caller: Mapping[str, Row]
    served_under: Sequence[ServedUnder]


def results(driver: Driver, callers: Sequence[str]) -> Results:
    """`callers`: their names, which differ."""
    models = {model for model, _ in driver.tallies}
    seconds = driver.throughput.seconds
    return Results(
        seconds=seconds,
        mean_output_tokens_per_second=driver.throughput.output_tokens / seconds if seconds else None,
        output_tokens_per_second=Distribution.of(driver.throughput.per_second),
        requests_per_second=driver.throughput.requests / seconds if seconds else None,
        sent_late_seconds=Distribution.of(driver.late),
        total=Row.of(total(driver)),
        by_model={name: Row.of(_sum(driver, model=name)) for name in sorted(models)},
        by_caller={name: Row.of(_sum(driver, caller=place)) for place, name in enumerate(callers)},
        served_under=sorted(driver.served_under, key=repr),
    )


def total(driver: Driver) -> Tally:
    """All requests that count."""
    return _sum(driver)


def _sum(driver: Driver, *, model: str | None = None, caller: int | None = None) -> Tally:
    """Of one model or one caller, or of all."""
    whole = Tally()
    for (of_model, of_caller), tally in driver.tallies.items():
        if model in {None, of_model} and caller in {None, of_caller}:
            whole.add(tally)
    return whole


def plot(title: str, tally: Tally) -> str:
    """Milliseconds over percentiles, as SVG; a step to the right is a tenth of the requests. Needs a first token."""
    ticks = {_nines(share): label for share, label in _MARKED_SHARES.items()}
    named = {
        "first token": tally.first_token,
        "between tokens": tally.inter_token,
        "each token": tally.per_output_token,
        "whole answer": tally.whole,
    }
    curves = {name: _curve(values) for name, values in named.items() if values.count}
    series = [Series(name, curve, [point for point in curve if point[0] in ticks]) for name, curve in curves.items()]
    return svg(title, "percentile", "milliseconds", series, x_ticks=ticks)


def _curve(values: Histogram) -> Curve:
    """As far as there are values beyond: the percentile 99.9 of ten values would be their longest."""
    shares = [share for share in _SHOWN_SHARES if share <= 1 - 1 / values.count]
    return [(_nines(share), max((values.quantile(share) or 0.0) * 1e3, _LEAST_PLOTTED_MS)) for share in shares]


def _nines(share: float) -> float:
    """How often the rest was divided by ten: 0.9 is 1, 0.99 is 2."""
    return -math.log10(1 - share)
