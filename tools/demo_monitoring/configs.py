"""The files that Prometheus and Alertmanager read: those of the project, sixty times as fast, and on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tools.promql import milliseconds, written
from tools.scaled_rules import DASHBOARDS, scaled_rules, with_links

SCALE = 60
"""An hour of the rules is a minute here."""
JOB = "sluicegate-demo"
_ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = Path("docs/runbooks")
"""From the project's root, as the alerts' links are written."""
_FILES = _ROOT / "helm/sluicegate/files"
_INTERVAL = "1s"
_WAITS = ("group_wait", "group_interval", "repeat_interval")


def rules() -> str:
    """The project's rules at the demo's pace, whose runbooks are the files here."""
    text = (_FILES / "rules.yaml").read_text(encoding="utf-8")
    return with_links(scaled_rules(text, SCALE), str(RUNBOOKS), DASHBOARDS)


def prometheus_config(rules_file: Path, metrics: str, alertmanager: str) -> str:
    """Scrape the server's metrics at HOST:PORT, and send alerts to Alertmanager's URL."""
    intervals = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    document = {
        "global": dict.fromkeys(intervals, _INTERVAL),
        "rule_files": [str(rules_file.resolve())],
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [metrics]}]}],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [alertmanager.removeprefix("http://")]}]}],
        },
    }
    return yaml.safe_dump(document, sort_keys=False)


def alertmanager_config(inbox: str) -> str:
    """The project's example at the demo's pace; each receiver is a path of the demo's inbox at this URL."""
    document: dict[str, Any] = yaml.safe_load((_FILES / "alertmanager.yaml").read_text(encoding="utf-8"))
    _hurry(document["route"])
    for receiver in document["receivers"]:
        receiver["webhook_configs"] = [{"url": f"{inbox}/{receiver['name']}"}]
    return yaml.safe_dump(document, sort_keys=False)


def _hurry(route: dict[str, Any]) -> None:
    for name in _WAITS:
        if name in route:
            route[name] = written(max(1, milliseconds(route[name]) // SCALE))
    for below in route.get("routes", ()):
        _hurry(below)
