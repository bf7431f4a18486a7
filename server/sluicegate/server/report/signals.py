"""Signs of misuse in the period, as a Prometheus has them: alerts that were raised, and counts of finds.

Each count is Prometheus' `increase`, which is an estimate: it extrapolates to the ends of the period. So a true count
may be told as one more, and what is withheld goes one further than elsewhere.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from sluicegate.server.report.figures import AlertRow, SignalRow, Signals
from sluicegate.server.report.period import Period, seconds_of
from sluicegate.server.report.prometheus import MAX_POINTS, Prometheus, Series
from sluicegate.server.report.suppression import SMALLEST, Figure

ALERT_STEP_SECONDS = 60.0
"""How close alerts are looked at: one that was raised and gone in between is missed."""
GAP_STEP_SECONDS = 3600.0
MAX_TOLD_ALERTS = 1_000

_ALERTS = 'ALERTS{alertstate="firing",area=~"misuse|control"}'
"""Of the rules that come with Sluicegate, which have these areas: others' alerts are in the same Prometheus."""


async def ask_signals(prometheus: Prometheus, period: Period) -> Signals:
    """What it knows. Raises PageError."""
    return Signals(
        gaps=await _gaps(prometheus, period),
        alerts=await _alerts(prometheus, period),
        prompt_duplicates=await _counts(prometheus, period, "sluicegate_prompt_duplicates_total", "partner"),
        output_duplicates=await _counts(prometheus, period, "sluicegate_output_duplicates_total", "partner"),
        personal_data=await _counts(prometheus, period, "sluicegate_pii_found_total", "type"),
        flagged_lexicon=await _counts(prometheus, period, "sluicegate_flagged_lexicon_total", "category"),
        memorisation=await _counts(prometheus, period, "sluicegate_memorisation_suspects_total", "model"),
    )


async def _counts(prometheus: Prometheus, period: Period, metric: str, label: str) -> tuple[SignalRow, ...]:
    seconds = max(1, round(period.seconds))
    query = f"sum by ({label}) (increase({metric}[{seconds}s]))"
    counts: defaultdict[str, float] = defaultdict(float)
    for series in await prometheus.at(query, seconds_of(period.until)):
        value = series.points[0][1]
        if math.isfinite(value) and 0 <= value < 2**53:
            counts[series.labels.get(label, "")] += value
    return tuple(SignalRow(name, _told(count)) for name, count in sorted(counts.items()))


def _told(estimate: float) -> Figure:
    """A true 4 may be estimated as 5, and anything above 0 is at least one."""
    return Figure(withheld=1) if 0 < estimate < SMALLEST + 1 else Figure(round(estimate))


async def _alerts(prometheus: Prometheus, period: Period) -> tuple[AlertRow, ...]:
    """Alerts of ours that fired, by name: how many times, and for how many minutes."""
    times: defaultdict[tuple[str, ...], set[tuple[int, int]]] = defaultdict(set)
    identities: dict[frozenset[tuple[str, str]], int] = {}
    for start, end in _windows(period, ALERT_STEP_SECONDS):
        for series in await prometheus.over(_ALERTS, start, end, ALERT_STEP_SECONDS):
            name = tuple(series.labels.get(label, "") for label in ("alertname", "area", "severity"))
            identity = identities.setdefault(frozenset(series.labels.items()), len(identities))
            times[name] |= {
                (identity, round((at - seconds_of(period.since)) // ALERT_STEP_SECONDS)) for at, _ in series.points
            }
    rows = [
        AlertRow(alert, area, severity, sum((who, step - 1) not in seen for who, step in seen), len(seen))
        for (alert, area, severity), seen in sorted(times.items())
    ]
    return tuple(rows[:MAX_TOLD_ALERTS])


async def _gaps(prometheus: Prometheus, period: Period) -> tuple[str, ...]:
    """Hours of the period of which it has nothing of any server."""
    step = min(GAP_STEP_SECONDS, max(60.0, period.seconds / 10))
    query = f"count(count_over_time(sluicegate_policy_info[{round(step)}s]))"
    start, wanted = seconds_of(period.since) + step, math.floor(period.seconds / step)
    seen: list[Series] = []
    for begin in range(0, wanted, MAX_POINTS):
        end = min(wanted, begin + MAX_POINTS) - 1
        seen += await prometheus.over(query, start + begin * step, start + end * step, step)
    known, gaps = sum(len(series.points) for series in seen), []
    if known < wanted:
        gaps.append(
            f"Prometheus has nothing of any server in {wanted - known} of {wanted} stretches of {round(step / 60)} "
            "minutes of the period: what happened then is missing below."
        )
    dropped = f"sum(increase(sluicegate_signals_dropped_total[{max(1, round(period.seconds))}s]))"
    lost = sum(series.points[0][1] for series in await prometheus.at(dropped, seconds_of(period.until)))
    if lost > 0:
        gaps.append("Some prompts or outputs were not looked at, since the servers were behind with it.")
    return tuple(gaps)


def _windows(period: Period, step: float) -> Iterator[tuple[float, float]]:
    start, until = seconds_of(period.since), seconds_of(period.until)
    while start < until:
        end = min(start + (MAX_POINTS - 1) * step, until - 0.001)
        yield start, end
        start += MAX_POINTS * step
    yield until - 0.001, until - 0.001  # what began after the last step, and still is
