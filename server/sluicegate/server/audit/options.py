"""What the commands of audit logs are told: directories, keys, heads, times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from sluicegate.auth import IssuingError, Reason, read_signing_key
from sluicegate.auth.encoding import decode_base64url
from sluicegate.auth.terminal import stop
from sluicegate.server.audit.chain import Head, parse_head
from sluicegate.server.audit.form import time_text
from sluicegate.server.audit.problems import Problem, ProblemKind, Report
from sluicegate.server.audit.witness import has_forgotten
from sluicegate.server.state import StateError, Store, open_store

_Answer = TypeVar("_Answer")


def _public_key(text: str) -> str:
    """A key, or that in a file that `keys generate` wrote. Raises BadParameter."""
    if Path(text).is_file():
        try:
            return str(read_signing_key(Path(text)).public_jwk().get("x"))
        except IssuingError as error:
            raise typer.BadParameter(str(error)) from error
    try:
        is_key = len(decode_base64url(text)) == 32
    except ValueError:
        is_key = False
    if not is_key:
        raise typer.BadParameter("give the file of `keys generate --private`, or the key: 43 characters of base64url")
    return text


def _head(text: str) -> Head:
    try:
        return parse_head(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def parse_time(text: str) -> str:
    """A time as entries have it; UTC where no zone is given. Raises BadParameter."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter("write a time as 2026-01-20 or 2026-01-20T07:00:00Z") from error
    return time_text((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


Directories = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Log directories, one for each replica.")]
Keys = Annotated[
    list[str] | None,
    typer.Option("--public-key", metavar="KEY", parser=_public_key, help="A key of checkpoints. Repeatable."),
]
Anchors = Annotated[
    list[Head] | None,
    typer.Option("--anchor", metavar="HEAD", parser=_head, help="A head that was kept elsewhere. Repeatable."),
]
State = Annotated[
    str | None,
    typer.Option("--state", metavar="URL", help="The servers' state store: it has the heads of their logs."),
]
IsPart = Annotated[bool, typer.Option("--part", help="The first files of a log may be missing.")]
Partner = Annotated[str | None, typer.Option(help="Calls of this partner; also public or internal.")]
Model = Annotated[str | None, typer.Option(help="Calls to this model.")]
WithReason = Annotated[Reason | None, typer.Option(help="Refused or ended for this reason.", metavar="REASON")]
Since = Annotated[str | None, typer.Option(metavar="TIME", parser=parse_time, help="From this time on; UTC.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", parser=parse_time, help="Before this time; UTC.")]


def heads(url: str | None) -> dict[str, Head] | None:
    """The heads in a state store, by replica; None without one."""
    if url is None:
        return None

    try:
        return {replica: parse_head(text) for replica, text in _asked(url, Store.anchors).items()}
    except ValueError as error:
        stop(f"--state: {error}")


def store_problems(url: str | None, reports: Sequence[Report]) -> list[Problem]:
    """What a state store has forgotten of what these logs tell. Ask after they were read: both may grow meanwhile."""
    if url is None:
        return []

    async def ask(store: Store) -> list[Problem]:
        return [
            Problem(
                ProblemKind.STORE_FORGOT,
                str(report.directory),
                None,
                None,
                f"ends under change {report.withdrawals.change} of the withdrawals; the state store does not know it",
            )
            for report in reports
            if report.withdrawals is not None and await has_forgotten(store, report.withdrawals)
        ]

    return _asked(url, ask)


def _asked(url: str, question: Callable[[Store], Awaitable[_Answer]]) -> _Answer:
    """A store's answer; without one the command ends."""

    async def ask() -> _Answer:
        store = await open_store(url, must_exist=True)
        try:
            return await question(store)
        finally:
            await store.close()

    try:
        return asyncio.run(ask())
    except StateError as error:
        stop(f"--state: {error}")
