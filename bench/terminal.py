"""How the benches speak: results on standard output, progress on standard error, and a quiet end at Ctrl-C."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import NoReturn

from bench import machine

INTERRUPTED = 130
"""What a shell gives a program that Ctrl-C ended: 128 and SIGINT."""


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def run(main: Callable[[], int]) -> NoReturn:
    """The process' main function. What was begun is undone by its own contexts on the way out."""
    try:
        code = main()
    except KeyboardInterrupt:
        say("interrupted")
        code = INTERRUPTED
    sys.exit(code)


def document(
    bench: str,
    options: argparse.Namespace,
    results: Mapping[str, object],
    packages: Sequence[str] = ("sluicegate", "torch"),
) -> str:
    """One JSON object of a whole run: the machine, what was asked for, and what came out."""
    asked = {name: value for name, value in vars(options).items() if name != "json"}
    whole = {"bench": bench, "machine": machine.describe(packages), "options": asked, **results}
    return json.dumps(whole, indent=2, default=_plain)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        first, *others = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def headline() -> str:
    """The machine, for people."""
    found = machine.describe()
    flags = found["flags"]
    assert isinstance(flags, list)
    return f"{found['cpu']}, {found['cores']} cores, {' '.join(flags) or 'no wide vectors'}, {found['date']}"


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
