"""`sluicegate finding`: report on a model, see what was reported, and say what it is worth."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.client.commands.citing import cite
from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import members, write, write_json, write_table
from sluicegate.client.commands.withdrawals import shown_time
from sluicegate.client.errors import ConfigurationError
from sluicegate.client.findings import (
    Attachment,
    Finding,
    FindingDuty,
    FindingKind,
    FindingSeverity,
    FindingStatus,
)

MAX_DETAILS_BYTES = 8_192
"""The API's bound (finding_service.proto)."""
_SECONDS_A_DAY = 86_400

Id = Annotated[str, typer.Argument(metavar="ID", help="As `sluicegate finding list` shows it.")]
ModelFilter = Annotated[str, typer.Option("--model", help="Only those on this model.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
JsonListFlag = Annotated[bool, typer.Option("--json", help="Print one JSON array.")]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Check the request and change nothing.")]


class Kind(StrEnum):
    """What can be reported."""

    BIAS = "bias"
    MISUSE = "misuse"
    DETECTABILITY = "detectability"
    MEMORISATION = "memorisation"
    OTHER = "other"


class Severity(StrEnum):
    """How bad it can be."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Verdict(StrEnum):
    """What an operator can say."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    OPEN = "open"


@with_option_groups
@reported()
def new(
    *,
    model: Annotated[str, typer.Option("--model", help="The model, as `sluicegate models` shows it.")],
    kind: Annotated[Kind, typer.Option("--kind", help="What it is about.")],
    severity: Annotated[Severity, typer.Option("--severity", help="How bad it is.")],
    summary: Annotated[str, typer.Option("--summary", metavar="TEXT", help="What was found, on one line.")],
    details: Annotated[
        str | None,
        typer.Option("--details", metavar="FILE", help="A file with the rest, at most 8 KiB; - is standard input."),
    ] = None,
    attach: Annotated[
        list[Path] | None,
        typer.Option(
            "--attach",
            metavar="FILE",
            help="A file that belongs to it, by name and digest; it is not sent. Repeatable.",
        ),
    ] = None,
    client_request_id: Annotated[
        str, typer.Option("--client-request-id", metavar="ID", help="The same finding under the same id is filed once.")
    ] = "",
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
    connection: Connection,
) -> None:
    """File a finding on a model. Under an agreement it is the partner's, else the client's own.

    sluicegate finding new --model gpt2-774m --kind bias --severity high --summary "Odd." --attach pairs.csv

    Keep what you attach: the operators will ask for it, and its digest says that it is the one.
    """
    text = _details(details)
    attachments = tuple(_attachment(path) for path in attach or ())

    async def create() -> Finding:
        async with connection.client() as client:
            return await client.create_finding(
                model,
                FindingKind[kind.name],
                FindingSeverity[severity.name],
                summary,
                details=text,
                attachments=attachments,
                client_request_id=client_request_id,
                validate_only=dry_run,
            )

    filed = asyncio.run(create())
    if as_json:
        write_json({**members(filed), "id": None, "sha256": None} if dry_run else filed)
    elif dry_run:
        write(f"would be filed for {_whose(filed)}\n")
    else:
        write(f"filed {filed.id} for {_whose(filed)}\n  sha256 {filed.sha256}\n")


@with_option_groups
@reported()
def list_findings(
    *,
    model: ModelFilter = "",
    partner: Annotated[
        str, typer.Option("--partner", help="Only those of this partner, or of public or internal; for operators.")
    ] = "",
    as_json: JsonListFlag = False,
    connection: Connection,
) -> None:
    """Show the findings that the caller may see, the newest first."""

    async def listed() -> tuple[Finding, ...]:
        async with connection.client() as client:
            return await client.list_findings(model=model, partner=partner)

    found = asyncio.run(listed())
    if as_json:
        write_json(found)
    elif found:
        write_table(("id", "filed", "by", "model", "kind", "severity", "status", "summary"), map(_row, found))
    else:
        write("no findings\n")


@with_option_groups
@reported()
def show(finding: Id, *, as_json: JsonFlag = False, connection: Connection) -> None:
    """Show one finding, with its details and what operators say of it."""

    async def got() -> Finding:
        async with connection.client() as client:
            return await client.get_finding(finding)

    _show(asyncio.run(got()), as_json=as_json)


@with_option_groups
@reported()
def review(
    finding: Id,
    *,
    status: Annotated[Verdict, typer.Option("--status", help="What it is worth.")],
    justification: Annotated[str, typer.Option("--justification", metavar="TEXT", help="Why; its reporter reads it.")],
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
    connection: Connection,
) -> None:
    """Say what a finding is worth, in the place of what was said before. For operators, on findings of others.

    sluicegate finding review ID --status accepted --justification "Seen with our suite too."
    """

    async def reviewed() -> Finding:
        async with connection.client() as client:
            return await client.review_finding(
                finding, FindingStatus[status.name], justification, validate_only=dry_run
            )

    found = asyncio.run(reviewed())
    if as_json:
        write_json(found)
    else:
        write(f"{found.id} {'would be' if dry_run else 'is'} {found.status.value.lower()}\n")


@with_option_groups
@reported()
def duties(*, as_json: JsonListFlag = False, connection: Connection) -> None:
    """Show which agreements ask for findings, and when the next one of each is due. For operators."""

    async def listed() -> tuple[FindingDuty, ...]:
        async with connection.client() as client:
            return await client.list_finding_duties()

    found = asyncio.run(listed())
    if as_json:
        write_json(found)
    elif found:
        write_table(("agreement", "partner", "every", "last", "due", ""), map(_duty_row, found))
    else:
        write("no agreement in force asks for findings\n")


def build_finding() -> typer.Typer:
    """The commands about findings."""
    app = typer.Typer(no_args_is_help=True)
    app.callback()(_finding)
    for name, command in (
        ("new", new),
        ("list", list_findings),
        ("show", show),
        ("review", review),
        ("cite", cite),
        ("duties", duties),
    ):
        app.command(name)(command)
    return app


def _finding() -> None:
    """Report what you found out about a model, and see what became of it.

    The token needs findings:write to file and findings:read to read; operators have findings:manage too.
    """


def due_text(duty: FindingDuty) -> str:
    """When the next finding is due, and whether that is over."""
    return f"{shown_time(duty.due)}{', overdue' if duty.is_overdue else ''}"


def _details(source: str | None) -> str:
    """The text of a file or of standard input. Raises ConfigurationError for what no server would take."""
    if source is None:
        return ""
    try:
        if source == "-":
            raw = sys.stdin.buffer.read(MAX_DETAILS_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                raw = file.read(MAX_DETAILS_BYTES + 1)
        text = raw.decode("utf-8")
    except OSError as fault:
        raise ConfigurationError(f"{source} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError:
        raise ConfigurationError(f"{source} is not UTF-8 text, or over {MAX_DETAILS_BYTES} bytes") from None
    if len(raw) > MAX_DETAILS_BYTES:
        raise ConfigurationError(f"{source} is over {MAX_DETAILS_BYTES} bytes: attach it instead")
    return text


def _attachment(path: Path) -> Attachment:
    """A file by its digest. Raises ConfigurationError."""
    size, digest = 0, hashlib.sha256()
    try:
        for piece in _pieces(path):
            size += len(piece)
            digest.update(piece)
    except OSError as fault:
        raise ConfigurationError(f"{path} cannot be read: {fault.strerror}") from fault
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Attachment(path.name, media_type, size, digest.hexdigest())


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def _whose(finding: Finding) -> str:
    return f"{finding.partner} under {finding.agreement}" if finding.agreement else f"{finding.partner} client"


def _row(finding: Finding) -> Sequence[str]:
    names = (finding.kind, finding.severity, finding.status)
    return (
        finding.id,
        shown_time(finding.created),
        finding.partner,
        finding.model,
        *(name.value.lower() for name in names),
        finding.summary,
    )


def _show(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        write_json(finding)
        return
    rows = [
        ("finding", finding.id),
        ("sha256", finding.sha256),
        ("filed", f"{shown_time(finding.created)}, by {_whose(finding)} ({finding.reporter})"),
        ("model", f"{finding.model}, weights {finding.weights_sha256 or 'unknown'}, at stage {finding.stage}"),
        ("about", f"{finding.kind.value.lower()}, {finding.severity.value.lower()}"),
        ("summary", finding.summary),
        *(
            ("attached", f"{each.name} ({each.media_type}, {each.size_bytes:,} bytes) {each.sha256}")
            for each in finding.attachments
        ),
        ("status", finding.status.value.lower()),
        *(
            (("review", f"{shown_time(finding.review.reviewed)}: {finding.review.justification}"),)
            if finding.review
            else ()
        ),
    ]
    write_table(("", ""), rows)
    if finding.details:
        write(f"\n{finding.details.rstrip()}\n")


def _duty_row(duty: FindingDuty) -> Sequence[str]:
    return (
        duty.agreement,
        duty.partner,
        f"{duty.due_every_seconds / _SECONDS_A_DAY:g} d",
        shown_time(duty.last_finding) or "none",
        shown_time(duty.due),
        "overdue" if duty.is_overdue else "",
    )
