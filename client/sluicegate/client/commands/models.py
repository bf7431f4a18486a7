"""`sluicegate models`: what there is, what of it the caller may use, and what is known of one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.model_card import access_text, show
from sluicegate.client.commands.terminal import write, write_json, write_table
from sluicegate.client.errors import Unavailable
from sluicegate.client.results import Model

_AGAIN_SECONDS = 1.0
_COLUMNS = ("model", "parameters", "context", "state", "stage", "open to", "you", "license")


def build_models() -> typer.Typer:
    """The list, and the commands about one model."""
    app = typer.Typer(invoke_without_command=True)
    app.callback()(models)
    app.command()(show)
    return app


@with_option_groups
@reported()
def models(
    *,
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show them again at each change.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array, on one line.")] = False,
    connection: Connection,
) -> None:
    """Show the models that the caller may know of, smallest first."""
    if context.invoked_subcommand is not None:
        _check_nothing_is_lost(context)
        return
    asyncio.run(_watch(connection, as_json) if watch else _list(connection, as_json))


def _check_nothing_is_lost(context: typer.Context) -> None:
    """Raise BadParameter for an option that stands before the name of a command, which has options of its own."""
    for parameter in context.command.params:
        source = parameter.name and context.get_parameter_source(parameter.name)
        if source and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"put {parameter.opts[0]} behind `{context.invoked_subcommand}`")


async def _list(connection: Connection, as_json: bool) -> None:
    async with connection.client() as client:
        _show(await client.models(), as_json)


async def _watch(connection: Connection, as_json: bool) -> None:
    """Until the server ends it. One whose replica has gone, or whose connection has grown old, is begun anew."""
    shown: tuple[Model, ...] | None = None
    async with connection.client() as client:
        while True:
            has_begun = False
            try:
                async with client.watch_models() as changes:
                    async for found in changes:
                        has_begun = True
                        if found != shown:
                            _show(found, as_json)
                            if not as_json:
                                write("\n")
                        shown = found
                return
            except Unavailable:
                if not has_begun:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)


def _show(found: Sequence[Model], as_json: bool) -> None:
    if as_json:
        write_json(found)
    elif found:
        write_table(_COLUMNS, (_row(each) for each in found))
    else:
        write("no model is open to this caller\n")


def _row(model: Model) -> list[str]:
    return [
        model.id,
        f"{model.parameters:,}" if model.parameters else "",
        str(model.context_length or ""),
        model.state.value.lower(),
        model.stage,
        model.open_to.value.lower(),
        access_text(model.caller_access),
        model.license,
    ]
