"""Each kind of misuse raises its alerts in a real Prometheus, and honest use that looks like it raises no others.

The servers are real but for their models, which say what the scenario needs; the rules run sixty times as fast.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from harness import METRICS, Server, serving
from misuse import SCENARIOS, Scenario, plan, terms, varied
from prometheus import Alert, Prometheus, asked, prometheus

from tools.scaled_rules import scaled_rules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

RULES = Path(__file__).resolve().parents[2] / "helm/sluicegate/files/rules.yaml"
SCALE = 60
WATCHED_SECONDS = 60.0
"""After the last call: the longest window of an alert about misuse is an hour, and this is one at that pace."""
DASHBOARD = RULES.parent / "dashboards/misuse.json"
NEVER_SEEN = {
    "Near-duplicates among outputs",
    "Outputs that look memorised",
    "Personal data taken out",
    "Texts checked for watermarks",
    "Texts not looked at",
}
"""Panels that no scenario fills: the scripted outputs differ, no model has learnt them, no agreement wants them
redacted, nobody asks whose texts are, and the watcher keeps up."""
JOB = "sluicegate-"
POLICY = {"directory": "policy", "signatures": "off", "reload_seconds": 5}
"""Looked at seldom: no scenario changes it, and a dozen servers share this process."""
AT_ONCE = 3
"""Scenarios that are driven at a time: all share this process."""


@dataclass(slots=True)
class Seen:
    """What became of a scenario. `after_seconds`: from its first call until Prometheus had each alert firing."""

    begun: float = 0.0
    alerts: dict[str, Alert] = field(default_factory=dict)
    after_seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watched:
    """All scenarios, and the panels of the dashboard about misuse that had nothing to show in any of them."""

    scenarios: Mapping[str, Seen]
    empty_panels: frozenset[str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """All scenarios, each at a server of its own, watched by one Prometheus."""
    directory = tmp_path_factory.mktemp("misuse")
    fast = directory / "fast.yaml"
    fast.write_text(scaled_rules(RULES.read_text(encoding="utf-8"), SCALE))
    found: Mapping[str, Seen] = defaultdict(Seen)
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                serving(directory / scenario.name, plan(), [terms(scenario)], metrics=METRICS, policy=POLICY)
            )
            for scenario in SCENARIOS
        ]
        driven = list(zip(SCENARIOS, servers, strict=True))
        targets = {JOB + scenario.name: [_metrics(server)] for scenario, server in driven}
        running = stack.enter_context(prometheus(directory / "prometheus", targets, [fast], interval="1s"))
        await asyncio.to_thread(running.wait_for_scrapes)
        watching = asyncio.create_task(watch(running, found))
        at_once = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(drive(scenario, server, found, at_once) for scenario, server in driven))
        await asyncio.to_thread(running.wait_for_scrapes)
        empty = await asyncio.to_thread(panels_without_data, running, list(targets))
        await asyncio.sleep(WATCHED_SECONDS)
        watching.cancel()
        yield Watched(found, empty)


def panels_without_data(running: Prometheus, jobs: Sequence[str]) -> frozenset[str]:
    """The titles of panels whose queries have no sample for any job."""

    def has_data(panel: dict[str, Any], job: str) -> bool:
        return any(running.has(asked(target["expr"], job=job)) for target in panel["targets"])

    found = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    panels = [panel for entry in found for panel in (entry, *entry.get("panels", [])) if panel["type"] != "row"]
    return frozenset(panel["title"] for panel in panels if not any(has_data(panel, job) for job in jobs))


def _metrics(server: Server) -> str:
    assert server.running.metrics_address is not None
    return server.running.metrics_address


async def drive(scenario: Scenario, server: Server, found: Mapping[str, Seen], at_once: asyncio.Semaphore) -> None:
    async with at_once:
        server.engine.writes = varied
        found[scenario.name].begun = time.monotonic()
        await scenario.drive(server)


async def watch(running: Prometheus, found: Mapping[str, Seen]) -> None:
    """Note every alert on misuse and control that fires, and when it first did, until cancelled.

    Those on the service are left out: a server that does not answer for half a second has been down for half a minute
    at this pace.
    """
    while True:
        for alert in await asyncio.to_thread(running.alerts):
            scenario = found[alert.labels.get("job", "").removeprefix(JOB)]
            if alert.is_firing and alert.labels["area"] != "service" and alert.name not in scenario.alerts:
                scenario.alerts[alert.name] = alert
                scenario.after_seconds[alert.name] = time.monotonic() - scenario.begun
        await asyncio.sleep(0.25)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
async def test_scenario_raises_its_alerts_and_no_others(scenario: Scenario, seen: Watched) -> None:
    assert frozenset(seen.scenarios[scenario.name].alerts) == scenario.alerts


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.alerts], ids=lambda each: each.name)
async def test_alert_says_whom_it_is_about(scenario: Scenario, seen: Watched) -> None:
    for name, alert in seen.scenarios[scenario.name].alerts.items():
        is_believed = name not in ("ForgedTokens", "RevokedTokenInUse")
        assert ("example-lab" in alert.annotations["summary"]) == is_believed
        assert alert.labels.get("partner") == ("example-lab" if is_believed else None)


@pytest.mark.asyncio(loop_scope="module")
async def test_figures_of_the_whole_set(seen: Watched) -> None:
    """Precision and recall over pairs of scenario and alert; `pytest -s` shows them, and how long each took."""
    expected = {(each.name, alert) for each in SCENARIOS for alert in each.alerts}
    raised = {(name, alert) for name, each in seen.scenarios.items() for alert in each.alerts}
    for name, alert in sorted(raised):
        print(f"\n{name:<16} {alert:<20} {seen.scenarios[name].after_seconds[alert]:5.1f} s", end="")
    print(f"\nprecision {len(raised & expected)}/{len(raised)}, recall {len(raised & expected)}/{len(expected)}")

    assert raised == expected


@pytest.mark.asyncio(loop_scope="module")
async def test_every_panel_about_misuse_shows_it(seen: Watched) -> None:
    assert seen.empty_panels <= NEVER_SEEN
