"""Run every check that changes no file, all of them even if one fails, and name those that failed.

.venv/bin/python tools/check.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TYPED = ("auth", "server", "client", "tests", "tools", "bench")
MODULE = (sys.executable, "-m")
CHECKS: dict[str, tuple[str, ...]] = {
    "lint": (*MODULE, "ruff", "check", "--quiet", "."),
    "format": (*MODULE, "ruff", "format", "--check", "--quiet", "."),
    "types": (*MODULE, "mypy", *TYPED),
    "stubs": (sys.executable, "protos/generate.py", "--check"),
    "model cards": (*MODULE, "tools.demo_models.card", "--check"),
    "dashboards": (*MODULE, "tools.dashboards", "--check"),
    "chart": (*MODULE, "tools.chart", "--check"),
}


def main() -> int:
    """Run all checks; 1 if any failed."""
    failed = []
    for name, command in CHECKS.items():
        print(f"check: {name}", flush=True)
        if subprocess.run(command, check=False, cwd=ROOT).returncode != 0:
            failed.append(name)
    if failed:
        print(f"check: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
