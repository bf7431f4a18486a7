"""Runs the commands of audit logs as a shell would, and fails on a traceback."""

from __future__ import annotations

import typer
from typer.testing import CliRunner, Result

from sluicegate.server.audit.commands import audit_app

_app = typer.Typer()
_app.add_typer(audit_app, name="audit")


def run(*arguments: object) -> Result:
    """The result of `sluicegate audit …`. A wide terminal keeps messages from wrapping."""
    result = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(_app, ["audit", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result
