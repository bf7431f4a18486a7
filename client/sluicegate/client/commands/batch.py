"""`sluicegate batch`: many prompts from a file, with an output that a second run goes on with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate.client import errors
from sluicegate.client.commands.batch_files import Item, ResultFile, read_items
from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import Exit, reported
from sluicegate.client.commands.generate import error_members
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.sampling import Sampling
from sluicegate.client.commands.terminal import note, progress
from sluicegate.client.parallel import for_each, patiently

if TYPE_CHECKING:
    from sluicegate.client.client import Client
    from sluicegate.client.results import Generation


@with_option_groups
@reported()
def batch(
    model: Annotated[str, typer.Argument(help="As `sluicegate models` shows it.")],
    *,
    input_file: Annotated[
        Path, typer.Option("--input", metavar="FILE", help='Lines of {"prompt", "id"?, "config"?, "purpose"?}.')
    ],
    output_file: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="One line for each item; goes on where it stopped.")
    ],
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Calls at the same time.")] = 8,
    max_wait: Annotated[float, typer.Option(min=0, help="Longest wait that a quota may ask for, in seconds.")] = 120.0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also repeat what failed; an item's last line counts.")
    ] = False,
    include_tokens: Annotated[bool, typer.Option("--include-tokens", help="Also token ids and bytes.")] = False,
    purpose: Annotated[str, typer.Option(help="The purpose of items that state none.")] = "",
    priority: Annotated[int, typer.Option(help="Below 0: behind your other calls.")] = 0,
    sampling: Sampling,
    connection: Connection,
) -> None:
    """Generate for every line of a file, in any order, and write a line of JSON for each.

    An item that is refused for a reason of its own gets an `error` and the others go on; what would hit
    them all (token, access, unreachable server, a quota that asks for too long a wait) stops the run.
    """
    items = read_items(input_file, sampling.config())
    if output_file.exists() and output_file.samefile(input_file):
        raise errors.ConfigurationError("--input and --output are the same file")
    with ResultFile(output_file) as results:
        is_done = results.has_succeeded if retry_failed else results.has
        left = [item for item in items if not is_done(item.id)]
        with progress(len(items), len(items) - len(left)) as advance:
            run = Run(
                model,
                purpose,
                results,
                advance,
                max_wait_seconds=max_wait,
                include_tokens=include_tokens,
                priority=priority,
            )
            try:
                asyncio.run(run.all(connection, left, concurrency))
            except BaseException:
                done = sum(results.has(item.id) for item in items)
                note(f"{done} of {len(items)} items are in {output_file}; the same command goes on from there")
                raise
        failed = sum(not results.has_succeeded(item.id) for item in items)
    note(f"{len(items)} items, {failed} failed, {len(items) - len(left)} were there already")
    raise typer.Exit(Exit.REFUSED if failed else Exit.OK)


@dataclass(frozen=True, slots=True)
class Run:
    """The work on the items of one batch."""

    model: str
    purpose: str
    results: ResultFile
    advance: Callable[[int], None]
    max_wait_seconds: float
    include_tokens: bool
    priority: int

    async def all(self, connection: Connection, items: Sequence[Item], concurrency: int) -> None:
        """Work until every item has a result. Raises the first error that hits them all."""
        async with connection.client() as client:
            await for_each(items, lambda item: self._work(client, item), min(concurrency, len(items)))

    async def _work(self, client: Client, item: Item) -> None:
        try:
            members = _generation_members(await patiently(lambda: self._generate(client, item), self.max_wait_seconds))
        except errors.CallError as error:
            if not _is_of_the_item(error, item):
                raise
            members = {"error": error_members(error)}
        self.results.add(item.id, members)
        self.advance(1)

    async def _generate(self, client: Client, item: Item) -> Generation:
        return await client.generate(
            self.model,
            item.prompt,
            item.config,
            include_tokens=self.include_tokens or None,
            purpose=self.purpose if item.purpose is None else item.purpose,
            priority=self.priority,
        )


def _is_of_the_item(error: errors.CallError, item: Item) -> bool:
    """Whether the others may still pass."""
    match error:
        case errors.InvalidRequest() | errors.DeadlineExceeded():
            return True
        case errors.ServerFault():
            # Without a reason it is not the server's own word: a proxy, or no Sluicegate at all.
            return error.reason == "INTERNAL"
        case errors.AccessDenied():
            return error.reason == "PURPOSE_NOT_PERMITTED" and item.purpose is not None
        case _:
            return False


def _generation_members(generation: Generation) -> dict[str, object]:
    return {
        "text": generation.text,
        "candidates": generation.candidates,
        "started": generation.started,
        "usage": generation.usage,
    }
