"""The command line in this process, with what it wrote."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from typer.testing import CliRunner, Result

from sluicegate.client.commands.app import build_app

ROOT = Path(__file__).parents[2]
COMMAND = (
    sys.executable,
    "-c",
    f"import sys; sys.path[:0] = {[str(ROOT / part) for part in ('protos/gen', 'client')]!r}; "
    "from sluicegate.client.main import main; main()",
)
"""The command line in a process of its own."""


def sluicegate(*arguments: str | Path, text: str | bytes | None = None, env: dict[str, str] | None = None) -> Result:
    """Run the command; a defect in it is raised and not taken for an exit code."""
    shown: Sequence[str] = [str(each) for each in arguments]
    result = CliRunner().invoke(build_app(), shown, input=text, env=env, prog_name="sluicegate")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
