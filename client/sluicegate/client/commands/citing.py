"""`sluicegate finding cite`: a finding as an evidence file, for a stage of the release plan that asks for one."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.evaluation import evaluation_extra, tool
from sluicegate.client.commands.exits import reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import write
from sluicegate.client.errors import ConfigurationError
from sluicegate.client.findings import Finding, FindingStatus

if TYPE_CHECKING:
    from sluicegate.evidence import FindingEvidence


@with_option_groups
@reported()
def cite(
    finding: Annotated[str, typer.Argument(metavar="ID", help="As `sluicegate finding list` shows it.")],
    *,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="New evidence file, as policy/evidence/example-lab.json.")
    ],
    connection: Connection,
) -> None:
    """Write the evidence that a finding was filed and reviewed, without its text. For operators.

    A stage that requires a partner's finding opens on it.
    """
    with evaluation_extra():
        from sluicegate.evidence import digest, encode

    raw = encode(_evidence(asyncio.run(_got(finding, connection))))
    try:
        with output.open("xb") as file:
            file.write(raw)
    except FileExistsError:
        raise ConfigurationError(f"{output} is there already; name a new file") from None
    except OSError as fault:
        raise ConfigurationError(f"{output} cannot be written: {fault.strerror}") from fault
    write(f"{output}\n  sha256 {digest(raw)}\n")


async def _got(finding: str, connection: Connection) -> Finding:
    async with connection.client() as client:
        return await client.get_finding(finding)


def _evidence(finding: Finding) -> FindingEvidence:
    """The finding as evidence. Raises ConfigurationError for one that no stage could rest on."""
    from sluicegate.evidence import FindingEvidence
    from sluicegate.evidence.form import Subject

    if finding.review is None:
        raise ConfigurationError(f"no operator has reviewed {finding.id}; see `sluicegate finding review`")
    if finding.agreement is None:
        raise ConfigurationError(f"{finding.id} was filed under no agreement; a stage asks for findings of partners")
    if not finding.weights_sha256:
        raise ConfigurationError(f"{finding.id} is about no weights: the model was not loaded when it was filed")
    return FindingEvidence(
        tool=tool(),
        began=_to_the_second(finding.created),
        ended=_to_the_second(finding.review.reviewed),
        subject=Subject(model=finding.model, weights_sha256=finding.weights_sha256, dtype="", served_under=()),
        finding=finding.id,
        finding_sha256=finding.sha256,
        partner=finding.partner,
        agreement=finding.agreement,
        kind=finding.kind.value.lower(),
        severity=finding.severity.value.lower(),
        review="accepted" if finding.status is FindingStatus.ACCEPTED else "rejected",
    )


def _to_the_second(time: datetime) -> datetime:
    return time.replace(microsecond=0)
