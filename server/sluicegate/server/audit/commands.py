"""The command line of audit logs: `audit verify`, `audit show`, `audit export`, `audit requests`, `audit secret`.

Exit codes: 0 all is well, 1 something is wrong with a log or nothing was exported, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer

from sluicegate.auth.terminal import JsonFlag, err, out, print_json, printable, stop
from sluicegate.server.audit.options import (
    Anchors,
    Directories,
    IsPart,
    Keys,
    Model,
    Partner,
    Since,
    State,
    Until,
    WithReason,
    heads,
    store_problems,
)
from sluicegate.server.audit.problems import Problem, Report
from sluicegate.server.audit.replicas import Verification
from sluicegate.server.audit.requests_command import audit_requests, audit_secret
from sluicegate.server.audit.selection import Selection
from sluicegate.server.audit.tables import CsvRows, JsonLines, is_of_the_chain, text_row

audit_app = typer.Typer(help="Verify, show and export audit logs.", no_args_is_help=True, add_completion=False)


class Format(StrEnum):
    """Of an export."""

    CSV = "csv"
    JSONL = "jsonl"


@audit_app.command("verify")
def audit_verify(
    directories: Directories,
    *,
    public_key: Keys = None,
    anchor: Anchors = None,
    state: State = None,
    part: IsPart = False,
    as_json: JsonFlag = False,
) -> None:
    """Find out whether logs are as their servers wrote them.

    Without --public-key a log vouches for its own key. Without --state or --anchor nobody can tell whether its end was
    cut off.
    """
    logs = Verification(
        directories, public_keys=public_key or (), anchors=anchor or (), replicas=heads(state), is_part=part
    )
    logs.read_all()
    problems = [*logs.problems(), *store_problems(state, logs.reports)]
    if as_json:
        reports = [_report_members(report) for report in logs.reports]
        print_json({"verified": not problems, "logs": reports, "problems": [asdict(each) for each in problems]})
    else:
        for report in logs.reports:
            _show_report(report)
        _show_problems(problems, logs.reports)
    raise typer.Exit(1 if problems else 0)


@audit_app.command("show")
def audit_show(
    directories: Directories,
    *,
    partner: Partner = None,
    model: Model = None,
    reason: WithReason = None,
    since: Since = None,
    until: Until = None,
    as_json: JsonFlag = False,
) -> None:
    """Show entries by time, of one or many logs. With --json one object a line, the chain's own entries included."""
    logs = Verification(directories, is_part=True)
    selection = Selection(partner, model, reason, since, until)
    chosen = ((report, record) for report, record in logs.records() if selection.chooses(record))
    if as_json:
        lines = JsonLines(sys.stdout)
        for report, record in chosen:
            lines.write(report, record)
    else:
        for report, record in chosen:
            if not is_of_the_chain(record):
                out(printable(text_row(report, record)))
    problems = logs.problems()
    if problems:
        err(f"{len(problems)} problem(s); the first: {problems[0]}")
        err("do not rely on this before `sluicegate audit verify` has told what is wrong")
        raise typer.Exit(1)


@audit_app.command("export")
def audit_export(
    directories: Directories,
    *,
    output: Annotated[Path, typer.Option(help="New file; mode 0600.")],
    form: Annotated[Format, typer.Option("--format", help="csv or jsonl.")] = Format.CSV,
    public_key: Keys = None,
    anchor: Anchors = None,
    state: State = None,
    part: IsPart = False,
    partner: Partner = None,
    model: Model = None,
    reason: WithReason = None,
    since: Since = None,
    until: Until = None,
    unverified: Annotated[bool, typer.Option("--unverified", help="Export what can be read of a bad log.")] = False,
) -> None:
    """Write the entries of a period into a file. Nothing is written if the logs cannot be verified."""
    logs = Verification(
        directories, public_keys=public_key or (), anchors=anchor or (), replicas=heads(state), is_part=part
    )
    selection = Selection(partner, model, reason, since, until)
    try:
        with NamedTemporaryFile(
            "w", dir=output.parent, prefix=f".{output.name}.", encoding="utf-8", newline=""
        ) as file:
            rows = CsvRows(file) if form is Format.CSV else JsonLines(file)
            for report, record in logs.records():
                if selection.chooses(record):
                    rows.write(report, record)
            file.flush()
            problems = logs.problems()
            if not problems or unverified:
                os.link(file.name, output)
    except OSError as error:
        stop(f"{output}: {error.strerror}")
    _show_problems(problems, logs.reports)
    if problems and not unverified:
        stop(
            "nothing was exported, since the logs are not as they were written; --unverified exports them all the same"
        )
    out(f"{output}{': NOT VERIFIED' if problems else ''}")


audit_app.command("requests")(audit_requests)
audit_app.command("secret")(audit_secret)


def _report_members(report: Report) -> dict[str, object]:
    members = asdict(report)
    del members["problems"]
    return {**members, "directory": str(report.directory), "verified": report.is_good}


def _show_report(report: Report) -> None:
    if report.log is None:
        out(printable(f"{report.directory}: no log"))
        return
    key = "given" if report.is_key_given else "the log's own word: give --public-key"
    covered = "no entry" if report.signed_to is None else f"entry {report.signed_to}"
    end = f"complete to entry {report.last_entry}, of {report.last_at}" if report.is_good else "NOT as it was written"
    lines = [
        f"{report.directory}: log {report.log} of {report.deployment}, replica {report.replica}",
        f"  {end}; {report.entries} entries in {report.files} file(s), {report.open_calls} call(s) open",
        f"  signatures hold to {covered}; key {report.public_key} ({key})",
    ]
    if report.is_good and not report.is_anchored:
        lines.append("  no --state and no --anchor for this log: whether later entries were cut off cannot be told")
    for line in lines:
        out(printable(line))


def _show_problems(problems: list[Problem], reports: list[Report]) -> None:
    for problem in problems:
        err(str(problem))
    if more := sum(report.more_problems for report in reports):
        err(f"and {more} more")
