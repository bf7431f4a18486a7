"""Runs the commands of access control as a shell would, and fails on a traceback."""

from __future__ import annotations

import typer
from typer.testing import CliRunner, Result

from sluicegate.auth.commands import agreement_app, keys_app, policy_app, token_app
from sluicegate.auth.release_commands import advance, sign_proposal

_COMMANDS = {"keys": keys_app, "token": token_app, "policy": policy_app, "agreement": agreement_app}
_app = typer.Typer()
for _name, _commands in _COMMANDS.items():
    _app.add_typer(_commands, name=_name)
_release = typer.Typer()
_release.command("advance")(advance)
_release.command("sign")(sign_proposal)
_app.add_typer(_release, name="release")


def run(*arguments: object, stdin: str | None = None) -> Result:
    """The result of one command line. A wide terminal keeps tables from wrapping."""
    result = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(_app, [str(each) for each in arguments], stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result
