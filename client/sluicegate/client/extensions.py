"""Commands that other parts of Sluicegate bring along, loaded when they are called and not before.

The server and the access control register theirs as entry points of the group `sluicegate.commands`; this
package never imports either. An entry point's name is the command, its value a Typer app or a function.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType

import typer

from sluicegate.client.commands.exits import Exit, reported
from sluicegate.client.commands.terminal import note

GROUP = "sluicegate.commands"


@dataclass(frozen=True, slots=True)
class Extension:
    """What can be said about a command without loading it."""

    help: str
    extra: str


EXTENSIONS: Mapping[str, Extension] = MappingProxyType(
    {
        "serve": Extension("Run the server.", "server"),
        "init": Extension("Write settings, a policy and a signing key to begin with.", "server"),
        "demo": Extension("Run a server with the demo models, and walk through what it does.", "server"),
        "keys": Extension("Signing keys of the development issuer.", "server"),
        "token": Extension("Access tokens of the development issuer.", "server"),
        "audit": Extension("Verify, show and export audit logs.", "server"),
        "watch": Extension("Watch servers by their metrics: use, denials, signs of misuse.", "server"),
        "report": Extension("Report on a period from verified audit logs.", "server"),
        "policy": Extension("Check a policy, and ask it what it would decide.", "server"),
    }
)


def register(app: typer.Typer) -> None:
    """Give the app a command for each extension, which passes all its arguments on."""
    for name, extension in EXTENSIONS.items():
        app.command(
            name,
            help=extension.help,
            rich_help_panel="Server and operator",
            add_help_option=False,
            context_settings={
                "allow_extra_args": True,
                "allow_interspersed_args": False,
                "ignore_unknown_options": True,
            },
        )(_run)


def _run(context: typer.Context) -> None:
    name = context.info_name or ""
    with reported():
        try:
            load(name)(args=context.args, prog_name=context.command_path)
        finally:
            sys.stdout.flush()  # a disk that is full is told here, and not by Python as it exits


def load(name: str) -> typer.Typer:
    """The extension as an app. If it cannot be loaded, says what to install and raises Exit."""
    extra = EXTENSIONS[name].extra
    found = entry_points(group=GROUP, name=name)
    if not found:
        note(f"sluicegate: `{name}` is not part of this installation: pip install 'sluicegate[{extra}]'")
        raise typer.Exit(Exit.USAGE)
    try:
        command: object = next(iter(found)).load()
    except ModuleNotFoundError as missing:
        note(f"sluicegate: `{name}` needs {missing.name}: pip install 'sluicegate[{extra}]'")
        raise typer.Exit(Exit.USAGE) from None
    if isinstance(command, typer.Typer):
        return command
    if not callable(command):
        raise TypeError(f"the entry point {name} of {GROUP} is neither a Typer app nor a function")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name)(command)
    return app
