"""The chart's schema and table of values are those of the settings and values as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluicegate.server.config import Settings
from tools.chart import CHART, MADE, readme, schema, values

ROOT = Path(__file__).parents[2]
VALUES = (ROOT / CHART / "values.yaml").read_text()
SCHEMA: dict[str, Any] = json.loads((ROOT / CHART / "values.schema.json").read_text())


def test_the_committed_files_are_up_to_date() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "tools.chart", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr


def test_a_schema_of_other_settings_is_outdated() -> None:
    changed = json.dumps({**SCHEMA, "$defs": {**SCHEMA["$defs"], "Drain": {}}}, indent=2) + "\n"

    assert schema(changed) != changed
    assert schema(changed) == json.dumps(SCHEMA, indent=2) + "\n"


def leaves(part: dict[str, Any], place: str = "") -> Iterator[str]:
    """The dotted names of what a schema allows, down to where it leaves things open."""
    for name, each in part.get("properties", {}).items():
        if name != "global":  # Helm's own
            yield from leaves(each, f"{place}{name}.") if each.get("properties") else [place + name]


def test_each_value_has_a_default_and_a_place_in_the_schema() -> None:
    whole = yaml.safe_load(VALUES)
    named = {each.name for each in values(VALUES)}

    allowed = set(leaves(SCHEMA))

    assert {name for name in named if not name.startswith("settings.")} - {"resources"} == allowed - {
        f"resources.{part}" for part in ("requests", "limits", "claims")
    }
    for name in named:
        found = whole
        for key in name.split("."):
            found = found[key]


def closed(part: Any, place: str = "") -> Iterator[str]:
    """Where a schema lets any key pass that it does not know, in a section whose keys it knows."""
    if isinstance(part, dict):
        if part.get("type") == "object" and "properties" in part and part.get("additionalProperties") is not False:
            yield place
        for key, each in part.items():
            yield from closed(each, f"{place}/{key}")


def test_no_section_lets_an_unknown_key_pass() -> None:
    assert list(closed(SCHEMA)) == []


def test_the_settings_that_the_chart_makes_exist() -> None:
    sections = Settings.model_json_schema()
    definitions = {**sections["$defs"], "Settings": sections}

    for section, names in MADE.items():
        assert set(names) <= definitions[section]["properties"].keys()


def test_a_value_without_a_comment_is_told() -> None:
    with pytest.raises(SystemExit, match=r"ports\.grpc has no comment"):
        list(values("# Callers.\nreplicas: 1\nports:\n  grpc: 1\n"))


def test_the_table_has_a_row_for_each_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    made = readme("before\n<!-- values -->\nold\n<!-- end of values -->\nafter\n")

    assert made.startswith("before\n<!-- values -->\n| value |")
    assert made.endswith("<!-- end of values -->\nafter\n")
    assert made.count("\n| `") == len(list(values(VALUES)))
