"""Which alert belongs to which act, and whether all came and no other did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tools.demo_monitoring.lookout import SERVICE, Alert, Board, Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What somebody does, and what must come of it.

    `expects`: each alert with the receiver that must be told; None if Alertmanager must keep it back.
    """

    name: str
    partner: str | None = None
    expects: Mapping[Alert, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario's line of the final table. `problems` is empty if all was as narrated."""

    scenario: str
    expected: str
    seen: str
    problems: tuple[str, ...]


def missing(scenario: Scenario, board: Board) -> list[str]:
    """What has not come yet."""
    found = []
    for alert, receiver in scenario.expects.items():
        if alert not in board.firing:
            found.append(f"{alert} did not fire")
        elif receiver is None and alert not in board.kept_back:
            found.append(f"Alertmanager did not keep {alert} back")
        elif receiver is not None and board.told.get(alert) != receiver:
            found.append(f"{receiver} was not told of {alert}")
    return found


def rows(scenarios: Sequence[Scenario], begun_seconds: Sequence[float], board: Board) -> list[Row]:
    """The final table. `begun_seconds`: when each scenario began, on the lookout's clock."""
    seen: list[dict[Alert, Sighting]] = [{} for _ in scenarios]
    for alert, sighting in board.firing.items():
        if sighting.area != SERVICE:
            seen[_place(scenarios, begun_seconds, alert, sighting)][alert] = sighting
    return [
        _row(scenario, begun, found, missing(scenario, board))
        for scenario, begun, found in zip(scenarios, begun_seconds, seen, strict=True)
    ]


def _place(scenarios: Sequence[Scenario], begun_seconds: Sequence[float], alert: Alert, sighting: Sighting) -> int:
    """The scenario that expects the alert; else the first of its partner; else the one that was under way."""
    for index, scenario in enumerate(scenarios):
        if alert in scenario.expects:
            return index
    for index, scenario in enumerate(scenarios):
        if alert.partner is not None and alert.partner == scenario.partner:
            return index
    return max((index for index, begun in enumerate(begun_seconds) if begun <= sighting.at_seconds), default=0)


def _row(scenario: Scenario, begun: float, seen: Mapping[Alert, Sighting], lacking: Sequence[str]) -> Row:
    extra = [f"{alert} fired: {seen[alert].summary}" for alert in seen if alert not in scenario.expects]
    return Row(
        scenario.name,
        ", ".join(map(str, scenario.expects)) or "none",
        ", ".join(f"{alert} ({sighting.at_seconds - begun:.0f} s)" for alert, sighting in seen.items()) or "none",
        (*lacking, *extra),
    )
