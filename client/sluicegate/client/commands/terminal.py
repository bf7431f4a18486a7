"""What commands read from and write to: text that cannot steer the terminal, JSON for scripts, tables for people."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from sluicegate.client.errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_PROMPT_BYTES = 64 << 10
"""The API's bound on text (generation_service.proto)."""
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""C0 and C1 controls but tab and newline, and what reorders the text around it (Unicode UAX #9)."""
_WIDTH_OF_A_FILE = 200


def safe(text: str) -> str:
    """The text without what a terminal would obey."""
    return _STEERING.sub("", text)


def write(text: str) -> None:
    """Write to stdout, now; made safe if a terminal shows it, else as it is."""
    sys.stdout.write(safe(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def write_json(value: object) -> None:
    """Write one line of JSON."""
    write(as_json(value) + "\n")


def as_json(value: object) -> str:
    """The value as JSON on one line, in ASCII: safe for every terminal and encoding."""
    return json.dumps(value, default=_plain)


def members(data: DataclassInstance) -> dict[str, object]:
    """The fields of a data class as JSON shows them: bytes as `<name>_base64`."""
    values = {each.name: getattr(data, each.name) for each in dataclasses.fields(data)}
    return {
        f"{name}_base64" if isinstance(value, bytes) else name: (
            base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
        )
        for name, value in values.items()
    }


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return members(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table; into a file or a pipe without breaking its lines at the terminal's width.

    On a terminal that is too narrow, cells go on below: what is cut off cannot be copied.
    """
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(*(Column(each, overflow="fold") for each in columns), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE).print(table)
    sys.stdout.flush()


@contextmanager
def progress(total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, if someone may watch it; gives what to call when so many more are done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda more: bar.advance(task, more)


def given_text(argument: str | None) -> str:
    """The argument; or, without one or for `-`, all of stdin less one newline at its end.

    Raises ConfigurationError for input that no server would take.
    """
    if argument is not None and argument != "-":
        return argument
    if sys.stdin is None:
        raise ConfigurationError("standard input is closed: give the text as an argument")
    raw = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 2)
    try:
        text = raw.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise ConfigurationError("the text on standard input is not UTF-8, or is too long") from None
    if not text:
        raise ConfigurationError("there is no text: give it as an argument or on standard input")
    if len(raw) > MAX_PROMPT_BYTES + 1:
        raise ConfigurationError(f"the text on standard input is over {MAX_PROMPT_BYTES} bytes")
    return text
