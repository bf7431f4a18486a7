"""The thresholds of the alerts, for the lines in panels: the rules are the one place that has them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).resolve().parents[2] / "helm/sluicegate/files/rules.yaml"
_COMPARED = re.compile(r"[<>] (\d+(?:\.\d+)?)(?: \* (\d+(?:\.\d+)?))?")
"""A comparison with a number, or with a product of two."""


@cache
def rules() -> tuple[dict[str, Any], ...]:
    """All rules, in the order of the file."""
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return tuple(rule for group in document["groups"] for rule in group["rules"])


def limit(alert: str, severity: str | None = None) -> float:
    """The first number that an alert's expression compares with. Raises KeyError if there is no such alert."""
    for rule in rules():
        if rule.get("alert") == alert and severity in (None, rule["labels"]["severity"]):
            compared = _COMPARED.search(rule["expr"])
            assert compared is not None, f"{alert} compares with no number"
            return float(compared.group(1)) * float(compared.group(2) or 1)
    raise KeyError(alert)
