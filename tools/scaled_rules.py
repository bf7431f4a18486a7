"""Make alerting rules run faster than life, for a trial of them in minutes, and fill in the addresses of their links.

    python -m tools.scaled_rules helm/sluicegate/files/rules.yaml --scale 60 > fast.yaml
    python -m tools.scaled_rules helm/sluicegate/files/rules.yaml \
        --runbooks https://wiki.example.org/sluicegate --dashboards https://grafana.example.org > rules.yaml

`--scale 60` divides every duration by 60: a range of an hour is a minute then, a day 24 minutes. That is: ranges,
subqueries and offsets of expressions, `for`, `keep_firing_for`, and a group's `interval` and `query_offset`. Plain
numbers stay, also those that mean seconds (`> 600`), since the ages that they are compared with pass as fast as ever;
so do counts, names and texts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from tools.promql import scaled, scaled_duration

RUNBOOKS = "https://runbooks.example"
"""What the committed files have for the place of the runbooks."""
DASHBOARDS = "https://grafana.example"
"""What they have for the address of Grafana."""

Document = dict[str, Any]


def main() -> int:
    """Write the changed rules to standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rules", type=Path, help="a file of Prometheus rules")
    parser.add_argument("--scale", type=int, default=1, help="divide all durations by this (%(default)s)")
    parser.add_argument("--runbooks", default=RUNBOOKS, metavar="URL", help="the folder that has the runbooks")
    parser.add_argument("--dashboards", default=DASHBOARDS, metavar="URL", help="Grafana's address")
    arguments = parser.parse_args()
    try:
        rules = scaled_rules(arguments.rules.read_text(encoding="utf-8"), arguments.scale)
    except ValueError as error:
        print(f"scaled_rules: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(with_links(rules, arguments.runbooks, arguments.dashboards))
    return 0


def scaled_rules(text: str, factor: int) -> str:
    """The rules with every duration divided by a factor of 1 or more. Raises ValueError if one does not divide."""
    if factor < 1:
        raise ValueError("the scale is a whole number, 1 or more")
    document: Document = yaml.safe_load(text)
    for group in document["groups"]:
        _scale_fields(group, ("interval", "query_offset"), factor)
        for rule in group["rules"]:
            rule["expr"] = scaled(str(rule["expr"]), factor)
            _scale_fields(rule, ("for", "keep_firing_for"), factor)
    return yaml.safe_dump(document, sort_keys=False, width=10_000, allow_unicode=True)


def with_links(text: str, runbooks: str, dashboards: str) -> str:
    """The text with the places of runbooks and dashboards filled in."""
    return text.replace(RUNBOOKS, runbooks.rstrip("/")).replace(DASHBOARDS, dashboards.rstrip("/"))


def _scale_fields(entry: Document, names: tuple[str, ...], factor: int) -> None:
    for name in names:
        if name in entry:
            entry[name] = scaled_duration(str(entry[name]), factor)


if __name__ == "__main__":
    sys.exit(main())
