"""The alerts, and whether promtool's cases of one hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from foreign import run

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "helm/sluicegate/files/rules.yaml"
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]


def holds(name: str, alerts: list[dict[str, Any]], directory: Path) -> bool:
    """Whether the cases of an alert hold with these alerts, as far as the cases name them, and what they record."""
    cases = yaml.safe_load((ROOT / f"tests/rules/{name}.yaml").read_text(encoding="utf-8"))
    text = str(cases)
    kept = [rule for rule in alerts if f'alertname="{rule["alert"]}"' in text]
    used = " ".join(rule["expr"] for rule in kept)
    records = [rule for group in GROUPS for rule in group["rules"] if "record" in rule and rule["record"] in used]
    rules = directory / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "some", "rules": [*records, *kept]}]}))
    file = directory / "cases.yaml"
    file.write_text(yaml.safe_dump({**cases, "rule_files": [str(rules)]}))
    tested = run("promtool", "test", "rules", file)
    assert "FAILED" in tested.stdout + tested.stderr or tested.returncode == 0, tested.stdout + tested.stderr
    return tested.returncode == 0
