"""`sluicegate models`: what there is, and what of it the caller may use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import write, write_json, write_table
from sluicegate.client.results import Model

_COLUMNS = ("model", "parameters", "context", "state", "stage", "open to", "you", "license")


@with_option_groups
@reported()
def models(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show them again at each change.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array, on one line.")] = False,
    connection: Connection,
) -> None:
    """Show the models that the caller may know of, smallest first."""
    asyncio.run(_watch(connection, as_json) if watch else _list(connection, as_json))


async def _list(connection: Connection, as_json: bool) -> None:
    async with connection.client() as client:
        _show(await client.models(), as_json)


async def _watch(connection: Connection, as_json: bool) -> None:
    async with connection.client() as client, client.watch_models() as changes:
        async for found in changes:
            _show(found, as_json)
            if not as_json:
                write("\n")


def _show(found: Sequence[Model], as_json: bool) -> None:
    if as_json:
        write_json(found)
    elif found:
        write_table(_COLUMNS, (_row(each) for each in found))
    else:
        write("no model is open to this caller\n")


def _row(model: Model) -> list[str]:
    access = model.caller_access
    allowed = f"allowed ({access.agreement})" if access.agreement else "allowed"
    return [
        model.id,
        f"{model.parameters:,}" if model.parameters else "",
        str(model.context_length or ""),
        model.state.value.lower(),
        model.stage,
        model.open_to.value.lower(),
        allowed if access.allowed else access.reason or "refused",
        model.license,
    ]
