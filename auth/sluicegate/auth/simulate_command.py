"""`sluicegate policy simulate`: what a change of policy would have meant for calls that were recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sluicegate.auth.diff_command import BAD_POLICY, DIFFERENT, NO_DIFFERENCE, read_policy
from sluicegate.auth.errors import RecordError
from sluicegate.auth.recorded import MAX_RECORD_BYTES, RecordedCall, read_records
from sluicegate.auth.simulation import Shift, Tally, simulate
from sluicegate.auth.terminal import JsonFlag, err, out, print_json, printable

PROGRESS_CALLS = 100_000

_SHOWN_GROUPS = 50


def policy_simulate(
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Directory of the policy as it would be.")],
    *,
    old: Annotated[Path, typer.Option(help="Directory of the policy as it was.")],
    requests: Annotated[
        typer.FileBinaryRead, typer.Option(help="Recorded calls, one JSON object a line; - for stdin.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Replay recorded calls under two policies: who would gain, who would lose, who would be served otherwise.

    Exit code 0: nobody would notice; 1: somebody would; 3: a bad policy or record. Memory does not grow with the file.
    """
    before, after = read_policy(old), read_policy(new)
    try:
        tally = simulate(before, after, _with_progress(read_records(_lines(requests))))
    except RecordError as error:
        err(f"{requests.name}: {error}")
        raise typer.Exit(BAD_POLICY) from None
    if as_json:
        print_json(plain(tally))
    else:
        _show(tally)
    raise typer.Exit(NO_DIFFERENCE if tally.is_unchanged else DIFFERENT)


def plain(tally: Tally) -> dict[str, object]:
    """The counts as JSON has them, the largest group first."""
    return {
        "calls": tally.totals.total(),
        "totals": {shift.value: tally.totals[shift] for shift in Shift},
        "groups": [
            {
                "shift": group.shift.value,
                "partner": group.partner,
                "client": group.client,
                "model": group.model,
                "action": group.action,
                "reason": group.reason,
                "calls": calls,
            }
            for group, calls in tally.groups.most_common()
        ],
    }


def _lines(file: typer.FileBinaryRead) -> Iterator[bytes]:
    """Line by line; of one without an end no more than shows that it is too long."""
    while line := file.readline(MAX_RECORD_BYTES + 1):
        yield line


def _with_progress(calls: Iterable[RecordedCall]) -> Iterator[RecordedCall]:
    for number, call in enumerate(calls, start=1):
        yield call
        if number % PROGRESS_CALLS == 0:
            err(f"{number:,} calls …")


def _show(tally: Tally) -> None:
    totals = ", ".join(f"{tally.totals[shift]:,} {shift.value}" for shift in Shift)
    out(f"{tally.totals.total():,} calls: {totals}")
    if tally.is_unchanged:
        return
    table = Table("calls", "shift", "as", "client", "action", "model", "reason or terms", box=None)
    for group, calls in tally.groups.most_common(_SHOWN_GROUPS):
        who = printable(group.client) or "(no token)"
        cells = (group.shift.value, group.partner, who, group.action, group.model, group.reason)
        table.add_row(f"{calls:,}", *(Text(cell) for cell in cells))
    Console().print(table)
    if len(tally.groups) > _SHOWN_GROUPS:
        out(f"and {len(tally.groups) - _SHOWN_GROUPS:,} smaller groups; --json has all of them")
