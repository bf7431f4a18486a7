"""Commands that other parts of Sluicegate bring along, loaded when they are called and not before.

The server and the access control register theirs as entry points of the group `sluicegate.commands`; this
package never imports either. An entry point's name is the command, with a dot for the space in one that stands in a
group of ours; its value is a Typer app or a function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
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
        "health": Extension("Ask a server whether it serves.", "server"),
        "init": Extension("Write settings, a policy and a signing key to begin with.", "server"),
        "demo": Extension("Run a server with the demo models, and walk through what it does.", "server"),
        "keys": Extension("Signing keys of the development issuer.", "server"),
        "token": Extension("Access tokens of the development issuer.", "server"),
        "audit": Extension("Verify, show and export audit logs.", "server"),
        "watch": Extension("Watch servers by their metrics: use, denials, signs of misuse.", "server"),
        "report": Extension("Report on a period from verified audit logs.", "server"),
        "policy": Extension("Check a policy, and ask it what it would decide.", "server"),
        "agreement": Extension("Draft, sign, renew and end agreements, and see what each clause comes to.", "server"),
        "watermark": Extension("Keys of the watermark.", "server"),
        "release advance": Extension("Take a policy to another stage, once its requirements are met.", "server"),
        "release sign": Extension("Sign a proposed step to another stage.", "server"),
    }
)


def register(app: typer.Typer, within: str = "") -> None:
    """Give the app, or a group's, a command for each extension, which passes all its arguments on."""
    for path, extension in EXTENSIONS.items():
        group, _, name = path.rpartition(" ")
        if group != within:
            continue
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
        )(_runner(path))


def _runner(path: str) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        with reported():
            try:
                load(path)(args=context.args, prog_name=context.command_path)
            finally:
                sys.stdout.flush()  # a disk that is full is told here, and not by Python as it exits

    return run


def load(name: str) -> typer.Typer:
    """The extension as an app. If it cannot be loaded, says what to install and raises Exit."""
    extra = EXTENSIONS[name].extra
    found = entry_points(group=GROUP, name=name.replace(" ", "."))
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
    app.command(name.rpartition(" ")[2])(command)
    return app
