"""Write the dashboards, or tell with `--check` which are not as this code makes them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.dashboards import misuse, partners, release, service

FOLDER = Path(__file__).resolve().parents[2] / "helm/sluicegate/files/dashboards"


def main() -> int:
    """Write all files, or with --check return 1 if one differs."""
    parser = argparse.ArgumentParser(prog="python -m tools.dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file is outdated")
    arguments = parser.parse_args()
    files = rendered()
    outdated = [
        name for name, text in files.items() if not (FOLDER / name).exists() or (FOLDER / name).read_text() != text
    ]
    if arguments.check:
        for name in outdated:
            print(f"dashboards: {name} is outdated: python -m tools.dashboards", file=sys.stderr)
        return 1 if outdated else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in outdated:
        (FOLDER / name).write_text(files[name], encoding="utf-8")
    return 0


def rendered() -> Mapping[str, str]:
    """File name to text. The order of keys is fixed, so that a change shows as what it is.

    Raises ValueError for an infinite number, which JSON does not have.
    """
    return {
        f"{module.__name__.rpartition('.')[2]}.json": json.dumps(
            module.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
        )
        + "\n"
        for module in (service, release, partners, misuse)
    }


if __name__ == "__main__":
    sys.exit(main())
