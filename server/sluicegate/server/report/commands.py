"""`sluicegate report`: transparency figures of a period, as a page, as Markdown and as data.

Exit codes: 0 the report was made, 1 it was refused, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sluicegate.auth import Policy, PolicyError, load_policy
from sluicegate.auth.terminal import JsonFlag, err, out, print_json, printable, show_problems, stop
from sluicegate.evidence import EvidenceError, EvidenceSet, read_directory
from sluicegate.server.audit import Verification
from sluicegate.server.audit.files import list_files
from sluicegate.server.audit.form import time_text
from sluicegate.server.audit.options import Anchors, IsPart, Keys, State, heads, parse_time
from sluicegate.server.errors import PageError
from sluicegate.server.fetching import Access, open_client
from sluicegate.server.page_options import Ca, PasswordFile, User, access_of, page_url
from sluicegate.server.report.assembling import Logs, assemble
from sluicegate.server.report.figures import Figures, Signals
from sluicegate.server.report.pages import html_page, markdown_page
from sluicegate.server.report.period import Period, up_to_now
from sluicegate.server.report.prometheus import Prometheus
from sluicegate.server.report.signals import ask_signals
from sluicegate.server.report.tally import Tally

PROGRESS_ENTRIES = 2_000
"""So many entries, a tenth of a second's, go by between two looks at the progress."""
_LINE_BYTES = 86
"""Of an entry's line, beside the entry itself: the hash and the names."""
HTML_FILE, MARKDOWN_FILE = "report.html", "report.md"


def report(
    *,
    since: Annotated[str, typer.Option("--from", metavar="TIME", parser=parse_time, help="First time; UTC.")],
    until: Annotated[
        str,
        typer.Option(metavar="TIME", parser=parse_time, help="Before this time; UTC. If it is yet to come, until now."),
    ],
    audit: Annotated[list[Path], typer.Option(metavar="DIR", help="A log directory. Repeatable: one a replica.")],
    public_key: Keys = None,
    anchor: Anchors = None,
    state: State = None,
    part: IsPart = False,
    accept_unverified: Annotated[
        bool, typer.Option("--accept-unverified", help="Report on a bad log too; the report then begins with that.")
    ] = False,
    prometheus: Annotated[
        httpx.URL | None,
        typer.Option(metavar="URL", parser=page_url, help="A Prometheus that watched the servers: for signals."),
    ] = None,
    user: User = None,
    password_file: PasswordFile = None,
    ca: Ca = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The policy directory: for the release plan's own record.")
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", exists=True, file_okay=False, help="Evidence files of evaluations; by default the policy's."
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="Of the report.")] = "Transparency report",
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help=f"For {HTML_FILE} and {MARKDOWN_FILE}, which must be new.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Report on a period from verified audit logs: who used what, who was denied, what was withdrawn.

    No clients and no people are in it, and no count of 1 to 4 calls. With --json the figures go to standard output.
    """
    if since >= until:
        raise typer.BadParameter("--from must be before --until")
    now = now_text()
    if since >= now:
        raise typer.BadParameter(f"--from is in the future: it is {now}")
    if output is None and not as_json:
        raise typer.BadParameter("say where to with --output, or --json")
    access = access_of([] if prometheus is None else [prometheus], user, password_file, ca)
    plan = None if policy is None else _policy(policy)
    files = _evidence(evidence, plan)
    logs = Verification(audit, public_keys=public_key or (), anchors=anchor or (), replicas=heads(state), is_part=part)
    tally = Tally(up_to_now(since, until, now))
    _read(logs, tally, audit)
    problems = logs.problems()
    for problem in problems:
        err(str(problem))
    more = sum(each.more_problems for each in logs.reports)
    if problems and not accept_unverified:
        stop(f"no report: the logs are not as they were written ({len(problems) + more} problem(s))")
    signals = None if prometheus is None else _signals(access, prometheus, tally.period)
    verified = Logs(logs.reports, len(problems) + more)
    figures = assemble(tally, verified, title=title, policy=plan, evidence=files, signals=signals)
    if output is not None:
        _write(output, figures)
    if as_json:
        print_json(asdict(figures))
    elif output is not None:
        for name in (HTML_FILE, MARKDOWN_FILE):
            out(str(output / name))


def now_text() -> str:
    """This moment, as entries have times."""
    return time_text(time.time())


def _policy(directory: Path) -> Policy:
    try:
        return load_policy(directory, None)
    except PolicyError as error:
        show_problems(error.problems)
        stop(f"--policy: {directory} is no good policy")


def _evidence(directory: Path | None, policy: Policy | None) -> EvidenceSet | None:
    """The files of a directory, or else those beside the policy; None without either. Tells which are none."""
    if directory is None:
        found = None if policy is None else policy.evidence
    else:
        try:
            found = read_directory(directory)
        except EvidenceError as error:
            stop(f"--evidence: {error}")
    for name, problem in ({} if found is None else found.unusable).items():
        err(printable(f"{name} {problem}"))
    return found


def _signals(access: Access, url: httpx.URL, period: Period) -> Signals:
    async def ask() -> Signals:
        async with open_client(access) as client:
            return await ask_signals(Prometheus(client, url), period)

    try:
        return asyncio.run(ask())
    except PageError as error:
        stop(f"--prometheus: {url}: {error}")


def _read(logs: Verification, tally: Tally, directories: list[Path]) -> None:
    with _progress(directories) as advance:
        octets = 0
        for number, (log, record) in enumerate(logs.records(), 1):
            tally.follow(log, record)
            octets += len(record.raw) + _LINE_BYTES
            if number % PROGRESS_ENTRIES == 0:
                advance.add(octets)
                octets = 0


class _Advance:
    """Shows how many octets have been read; nothing without a terminal."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task("reading logs", total=total)

    def add(self, octets: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, octets)


@contextmanager
def _progress(directories: list[Path]) -> Iterator[_Advance]:
    if not sys.stderr.isatty():
        yield _Advance(None, 0)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        yield _Advance(progress, sum(map(_octets, directories)))


def _octets(directory: Path) -> int:
    try:
        return sum((directory / file.name).stat().st_size for file in list_files(directory))
    except OSError:  # verification says so in its own words
        return 0


def _write(directory: Path, figures: Figures) -> None:
    """Write both files, each whole or not at all; neither replaces one."""
    if there := [name for name in (HTML_FILE, MARKDOWN_FILE) if (directory / name).exists()]:
        stop(f"{directory / there[0]} is there already: give a new directory")
    try:
        directory.mkdir(exist_ok=True)
        for name, text in ((HTML_FILE, html_page(figures)), (MARKDOWN_FILE, markdown_page(figures))):
            with NamedTemporaryFile("w", dir=directory, prefix=f".{name}.", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.link(file.name, directory / name)
    except OSError as error:
        stop(f"{directory}: {error.strerror}")
