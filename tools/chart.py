"""Write what of the Helm chart repeats something: the settings in values.schema.json, the table of values in README.md.

`python -m tools.chart --check` only tells whether they are up to date. The rest of the schema is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluicegate.server.config import Settings

CHART = Path("helm/sluicegate")
VALUES, SCHEMA, README = CHART / "values.yaml", CHART / "values.schema.json", CHART / "README.md"
_TABLE_BEGINS, _TABLE_ENDS = "<!-- values -->\n", "<!-- end of values -->\n"

MADE = {
    "Settings": ("listen", "tls"),
    "Policy": ("directory",),
    "State": ("url", "url_file"),
    "Audit": ("directory", "key", "secret", "replica"),
    "Metrics": ("listen", "tls", "basic_auth"),
    "Health": ("listen",),
    "Operators": ("listen", "tls"),
}
"""Settings that the chart makes: a sentence of its own refuses one that is given."""

_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z]\w*):(?: (?P<value>.+))?")
_REFERENCE = re.compile(r'"#/\$defs/(\w+)"')

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """A line of values.yaml that has a comment: its dotted name, its default, what it means."""

    name: str
    default: str
    meaning: str


def main() -> None:
    """Write the generated parts, or with --check exit with 1 and name the files that are outdated."""
    parser = argparse.ArgumentParser(prog="python -m tools.chart", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is outdated")
    files = {SCHEMA: schema(SCHEMA.read_text("utf-8")), README: readme(README.read_text("utf-8"))}
    outdated = [path for path, text in files.items() if path.read_text("utf-8") != text]
    if parser.parse_args().check:
        sys.exit(f"outdated, run python -m tools.chart: {', '.join(map(str, outdated))}" if outdated else 0)
    for path in outdated:
        path.write_text(files[path], encoding="utf-8")


def schema(text: str) -> str:
    """The schema of the values with the server's settings in it as they are now."""
    whole: Schema = json.loads(text)
    settings = Settings.model_json_schema()
    sections: Schema = {**settings.pop("$defs"), "Settings": settings}
    for name, made in MADE.items():
        section = sections[name]
        section.pop("required", None)
        section["properties"] |= dict.fromkeys(made, True)
    settings["properties"]["audit"] = {"$ref": "#/$defs/Audit"}  # whether it is off, `audit.enabled` says
    whole["$defs"] = {name: _as_values(sections[name]) for name in sorted(_reached(sections, "Settings"))}
    return json.dumps(whole, indent=2) + "\n"


def readme(text: str) -> str:
    """The chart's README with the table of the values as they are now."""
    before, _, rest = text.partition(_TABLE_BEGINS)
    _, _, after = rest.partition(_TABLE_ENDS)
    rows = "".join(
        f"| `{each.name}` | {each.default} | {each.meaning} |\n" for each in values(VALUES.read_text("utf-8"))
    )
    return f"{before}{_TABLE_BEGINS}| value | default | meaning |\n|---|---|---|\n{rows}{_TABLE_ENDS}{after}"


def values(text: str) -> Iterator[Value]:
    """The values in the order of the file. Exits with 1 at one without a comment: nobody would know of it."""
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip("# "))
        elif match := _KEY.fullmatch(line):
            path = [*path[: len(match["indent"]) // 2], match["key"]]
            if comment:
                default = f"`{match['value']}`" if match["value"] else "see below"
                yield Value(".".join(path), default, " ".join(comment))
            elif match["value"]:
                sys.exit(f"{VALUES}: {'.'.join(path)} has no comment")
            comment = []
        else:
            comment = []


def _reached(sections: Schema, name: str) -> set[str]:
    """The section and those that it refers to."""
    found: set[str] = set()
    waiting = {name}
    while waiting:
        found |= waiting
        text = json.dumps([sections[each] for each in waiting])
        waiting = set(_REFERENCE.findall(text)) - found
    return found


def _as_values(section: object) -> Any:
    """A part of the settings' schema for Helm, which reads a bare `off` as false, and knows nothing of our formats."""
    if isinstance(section, list):
        return [_as_values(each) for each in section]
    if not isinstance(section, dict):
        return section
    if section.get("const") == "off":
        return {"enum": ["off", False]}
    named = section.get("properties", {})
    kept = {key: value for key, value in section.items() if key not in ("title", "default", "format", "description")}
    return {key: _as_values(value) for key, value in kept.items()} | (
        {"properties": {name: _as_values(value) for name, value in named.items()}} if named else {}
    )


if __name__ == "__main__":
    main()
