"""Runs the programs of others that `make e2e` installs, against a server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GRPCURL = ROOT / ".tools/venv/bin/grpcurl"
BUF = ROOT / ".tools/venv/bin/buf"
NODE_MODULES = ROOT / ".tools/node/node_modules"
SECONDS = 60


def run(*command: str | Path, stdin: str = "", home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. `home` is where it may keep files."""
    environment = {**os.environ, "NODE_PATH": str(NODE_MODULES)} | ({"HOME": str(home)} if home else {})
    program = shutil.which(command[0])
    assert program is not None, f"{command[0]} is not installed: run `make e2e`"
    return subprocess.run(
        [program, *command[1:]],
        check=False,
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def json_values(text: str) -> list[Any]:
    """The JSON values that stand one after the other in a text."""
    return list(_json_values(text))


def _json_values(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    rest = text.lstrip()
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].lstrip()


def bearer(token: str) -> str:
    """The header of a token."""
    return f"authorization: Bearer {token}"
