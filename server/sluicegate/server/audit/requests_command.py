"""`audit requests`: calls on record, for `policy simulate`; and `audit secret`, which makes what names them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.auth import PolicyError, load_policy
from sluicegate.auth.terminal import err, out, stop
from sluicegate.server.audit.errors import AuditSetupError
from sluicegate.server.audit.options import Directories, Since, Until
from sluicegate.server.audit.pseudonyms import Pseudonyms, create_secret, read_secret
from sluicegate.server.audit.replaying import Replaying
from sluicegate.server.audit.replicas import Verification
from sluicegate.server.audit.selection import Selection


def audit_requests(
    directories: Directories,
    *,
    secret: Annotated[Path, typer.Option(help="The secret of the logs' pseudonyms.")],
    policy: Annotated[list[Path], typer.Option(help="A policy directory that names the clients. Repeatable.")],
    since: Since = None,
    until: Until = None,
) -> None:
    """Write the calls on record as `policy simulate --requests` reads them, a JSON object a line.

    Clients that none of the policies names keep their pseudonyms.
    """
    try:
        names = Pseudonyms(read_secret(secret))
        policies = [load_policy(directory, None) for directory in policy]
    except (AuditSetupError, PolicyError) as error:
        stop(str(error))
    clients = {client for each in policies for client in (*each.internal_clients, *each.agreements_by_client)}
    logs, replaying, undecidable = Verification(directories, is_part=True), Replaying(names, clients), 0
    selection = Selection(since=since, until=until)
    for _, record in logs.records():
        if not (selection.chooses(record) and replaying.asked(record)):
            continue
        if (call := replaying.call(record)) is None:
            undecidable += 1
        else:
            out(call.model_dump_json(exclude_defaults=True))
    if undecidable:
        err(f"{undecidable} call(s) left out: their entries do not tell what decided them")
    if problems := logs.problems():
        err(f"{len(problems)} problem(s); the first: {problems[0]}")
        raise typer.Exit(1)


def audit_secret(path: Annotated[Path, typer.Argument(metavar="FILE", help="New file; mode 0600.")]) -> None:
    """Make the secret behind pseudonyms. All replicas of a deployment share one."""
    try:
        create_secret(path)
    except AuditSetupError as error:
        stop(str(error))
    out(str(path))
