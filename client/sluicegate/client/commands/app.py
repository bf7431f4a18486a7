"""The app: every command of `sluicegate`. Starts without gRPC, which only a call needs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from sluicegate.client import extensions
from sluicegate.client.commands.access import check, quotas, whoami
from sluicegate.client.commands.batch import batch
from sluicegate.client.commands.bench import bench
from sluicegate.client.commands.bias import build_bias
from sluicegate.client.commands.detect import detect
from sluicegate.client.commands.engine import build_engine
from sluicegate.client.commands.exits import SEE, epilog
from sluicegate.client.commands.finding import build_finding
from sluicegate.client.commands.generate import generate
from sluicegate.client.commands.memorisation import build_memorisation
from sluicegate.client.commands.models import build_models
from sluicegate.client.commands.release import build_release
from sluicegate.client.commands.score import score
from sluicegate.client.commands.withdraw import build_withdraw


def build_app() -> typer.Typer:
    """The app with all its commands."""
    app = typer.Typer(
        name="sluicegate",
        no_args_is_help=True,
        epilog=epilog(),
        # A traceback with local variables would show tokens and prompts.
        pretty_exceptions_enable=False,
    )
    app.callback()(_sluicegate)
    for command in (generate, batch, bench, score, detect, whoami, quotas, check):
        app.command(epilog=SEE)(command)
    app.add_typer(build_models(), name="models", epilog=SEE)
    app.add_typer(build_bias(), name="bias", epilog=SEE)
    app.add_typer(build_memorisation(), name="memorisation", epilog=SEE)
    app.add_typer(build_release(), name="release", epilog=SEE)
    app.add_typer(build_withdraw(), name="withdraw", epilog=SEE)
    app.add_typer(build_engine(), name="engine", epilog=SEE)
    app.add_typer(build_finding(), name="finding", epilog=SEE)
    extensions.register(app)
    return app


def _print_version(is_asked: bool) -> None:
    if is_asked:
        try:
            typer.echo(f"sluicegate {version('sluicegate')}")
        except PackageNotFoundError:
            typer.echo("sluicegate, from a source tree")
        raise typer.Exit


def _sluicegate(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Text from GPT-2 models behind a server that decides who may use which."""
