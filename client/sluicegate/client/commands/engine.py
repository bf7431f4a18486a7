"""`sluicegate engine`: operators see what a replica's engines do, and step in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import SEE, reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import write, write_json, write_table
from sluicegate.client.engines import ActiveRequest, DrainPlan, EngineLoad, ModelLoad

_LOAD_COLUMNS = ("engine", "restarts", "model", "state", "queued", "running", "slots", "cache", "dtype", "weights")
_REQUEST_COLUMNS = ("request", "model", "action", "state", "age", "tokens", "client", "agreement")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What every order to a replica takes."""

    justification: Annotated[str, typer.Option("--justification", metavar="TEXT", help="Why, for the audit log.")]
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the request and do nothing.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False


@with_option_groups
@reported()
def load(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array, of engines.")] = False,
    connection: Connection,
) -> None:
    """Show how much each engine and each of its models has to do. Needs the scope engine:read.

    sluicegate engine load --target gate-0:50053
    """
    found = asyncio.run(_load(connection))
    if as_json:
        write_json(found)
    else:
        write_table(_LOAD_COLUMNS, (row for each in found for row in _load_rows(each)))


@with_option_groups
@reported()
def requests(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    connection: Connection,
) -> None:
    """Show the calls under way, the oldest first: whose they are and how far, nothing of their texts.

    Needs the scope engine:read.

    sluicegate engine requests --target gate-0:50053
    """
    found = asyncio.run(_requests(connection))
    if as_json:
        write_json(found)
    elif found:
        write_table(_REQUEST_COLUMNS, map(_request_row, found))
    else:
        write("no call is under way\n")


@with_option_groups
@reported()
def cancel(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="As `sluicegate engine requests` shows it.")],
    *,
    order: Order,
    connection: Connection,
) -> None:
    """End one call wherever it waits. Its caller reads why, and what it has used.

    sluicegate engine cancel 0198c1a2-… --justification "It hangs." --target gate-0:50053
    """
    ended = asyncio.run(_cancel(connection, request, order))
    if order.as_json:
        write_json(ended)
    else:
        done = "would be ended" if order.dry_run else "ended"
        write(f"{done}: {ended.request_id}, {_described(ended)}\n")


@with_option_groups
@reported()
def load_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="One of the server's settings.")],
    *,
    order: Order,
    connection: Connection,
) -> None:
    """Have a model answer that was unloaded, while others are served. A large one may need a longer --timeout.

    sluicegate engine load-model gpt2-774m --justification "Needed again." --target gate-0:50053
    """
    _show(asyncio.run(_load_model(connection, model, order)), order)


@with_option_groups
@reported()
def unload_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As `sluicegate engine load` shows it.")],
    *,
    grace: Annotated[
        float | None,
        typer.Option("--grace", metavar="SECONDS", min=0, max=3600, help="Time for its calls; else as at a drain."),
    ] = None,
    order: Order,
    connection: Connection,
) -> None:
    """Take a model out of the replica while others are served: no new calls, those under way get their time.

    sluicegate engine unload-model gpt2-774m --justification "Room for others." --target gate-0:50053

    The answer comes when it is out. --timeout must be longer than the grace.
    """
    _show(asyncio.run(_unload_model(connection, model, grace, order)), order)


@with_option_groups
@reported()
def drain(
    *,
    order: Order,
    connection: Connection,
) -> None:
    """Take the replica out of service, as SIGTERM would: calls under way get their time, then the process ends.

    sluicegate engine drain --justification "New kernel." --target gate-0:50053
    """
    plan = asyncio.run(_drain(connection, order))
    if order.as_json:
        write_json(plan)
        return
    done = "would be draining" if order.dry_run else "draining"
    calls = "1 call" if plan.active_requests == 1 else f"{plan.active_requests} calls"
    write(
        f"{done}: calls are taken for {plan.announce_seconds:g} s more, "
        f"those under way end within {plan.grace_seconds:g} s after that; {calls} now\n"
    )


def build_engine() -> typer.Typer:
    """The commands for those who run a replica. Reading needs the scope `engine:read`, orders `engine:manage`."""
    app = typer.Typer(no_args_is_help=True)
    app.callback()(_engine)
    for command in (load, requests, cancel, load_model, unload_model, drain):
        app.command(epilog=SEE)(command)
    return app


def _engine() -> None:
    """See what the engines of one replica do, and step in.

    For operators: --target is the replica's `operators.listen`, and the token needs the scope engine:read, for orders
    engine:manage.
    """


async def _load(connection: Connection) -> tuple[EngineLoad, ...]:
    async with connection.client() as client:
        return await client.engine.load()


async def _requests(connection: Connection) -> tuple[ActiveRequest, ...]:
    async with connection.client() as client:
        return await client.engine.requests()


async def _cancel(connection: Connection, request: str, order: Order) -> ActiveRequest:
    async with connection.client() as client:
        return await client.engine.cancel(request, order.justification, validate_only=order.dry_run)


async def _load_model(connection: Connection, model: str, order: Order) -> ModelLoad:
    async with connection.client() as client:
        return await client.engine.load_model(model, order.justification, validate_only=order.dry_run)


async def _unload_model(connection: Connection, model: str, grace: float | None, order: Order) -> ModelLoad:
    async with connection.client() as client:
        return await client.engine.unload_model(
            model, order.justification, grace_seconds=grace, validate_only=order.dry_run
        )


def _show(model: ModelLoad, order: Order) -> None:
    if order.as_json:
        write_json(model)
    else:
        said = "nothing was done; now" if order.dry_run else "now"
        write(f"{model.model} {said}: {model.state.value.lower()}\n")


async def _drain(connection: Connection, order: Order) -> DrainPlan:
    async with connection.client() as client:
        return await client.engine.drain(order.justification, validate_only=order.dry_run)


def _load_rows(engine: EngineLoad) -> Iterator[Sequence[str]]:
    name = engine.device if engine.alive else f"{engine.device} (down)"
    for model in engine.models:
        yield (
            name,
            str(engine.restarts),
            model.model,
            model.state.value.lower(),
            str(model.queued_requests),
            str(model.running_sequences),
            str(model.slots or ""),
            _size(model.cache_bytes),
            model.dtype or "",
            (model.weights_sha256 or "")[:12],
        )


def _request_row(request: ActiveRequest) -> Sequence[str]:
    return (
        request.request_id,
        request.model,
        request.action,
        request.state.value.lower(),
        f"{request.age_seconds:.1f} s",
        f"{request.prompt_tokens} + {request.output_tokens}",
        _client(request),
        request.agreement or "",
    )


def _described(request: ActiveRequest) -> str:
    tokens = f"{request.output_tokens} tokens after {request.age_seconds:.1f} s"
    return f"{request.action} with {request.model} by {_client(request)}: {request.state.value.lower()}, {tokens}"


def _client(request: ActiveRequest) -> str:
    return "anonymous" if request.client_id is None else f"{request.client_id} of {request.issuer}"


def _size(octets: int | None) -> str:
    return "" if octets is None else f"{octets / (1 << 20):,.0f} MiB"
