"""What the commands write: results to standard output, everything else to standard error, nothing a terminal obeys."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, NoReturn

import typer

from sluicegate.auth.errors import AuthenticationError, Problem

MAX_INPUT_BYTES = 64 * 1024

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def out(text: str) -> None:
    """Write a line of result."""
    sys.stdout.write(text + "\n")


def err(text: str) -> None:
    """Write a line that is no result."""
    sys.stderr.write(printable(text) + "\n")


def stop(text: str) -> NoReturn:
    """Say why and exit with 1: refused."""
    err(f"sluicegate: {text}")
    raise typer.Exit(1)


def print_json(value: object) -> None:
    out(json.dumps(value, indent=2))


def show_problems(problems: Sequence[Problem]) -> None:
    """Write a line for each; it begins with the file, as compilers' do."""
    for problem in problems:
        err(str(problem))


def token_text(raw: bytes) -> str:
    """The token in a file: without the line's end, and with what cannot stand in a token made visible."""
    return raw.decode("ascii", errors="replace").strip()


def printable(text: str) -> str:
    """Without what a terminal would obey: the author of a token or a file may be a stranger."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def reason_of(error: AuthenticationError) -> str:
    return with_facts(error.reason, error.detail)


def with_facts(reason: str, detail: Mapping[str, str]) -> str:
    """A reason and the facts that go with it, on one line."""
    return f"{reason} {', '.join(f'{name}={value}' for name, value in detail.items())}".rstrip()
