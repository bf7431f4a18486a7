"""What the tour writes: narration, the commands as they would be typed, and their output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console
from rich.table import Table
from rich.text import Text

_INDENT = "    "
_WIDTH = 100
"""Longer lines of prose are hard to read."""


class Narrator:
    """Writes to standard output. `plain`: no colours, no bold. `pauses`: wait for Enter after each step."""

    def __init__(self, *, plain: bool, pauses: bool) -> None:
        self._console = Console(color_system=None if plain else "auto", highlight=False)
        self._console.width = min(self._console.width, _WIDTH)
        self._pauses = pauses and sys.stdin.isatty()
        self._is_line_open = False
        self._held = ""

    def title(self, text: str) -> None:
        self._console.print(Text(text, style="bold cyan"))

    def say(self, text: str) -> None:
        self._console.print(Text(text))

    def aside(self, text: str) -> None:
        self._console.print(Text(_INDENT + text, style="dim"), soft_wrap=True)

    def command(self, line: str) -> None:
        """A command to type; never broken, so that it can be copied."""
        self._console.print(Text.assemble(("$ ", "green"), (line, "bold")), soft_wrap=True)

    def output(self, text: str) -> None:
        """A piece of a command's output, at once, without what a terminal would obey.

        Spaces wait for what follows them: tables are padded with them, and would wrap.
        """
        for line in text.splitlines(keepends=True):
            shown = self._held + "".join(letter for letter in line if letter.isprintable() or letter == "\t")
            self._held = shown[len(shown.rstrip()) :]
            if written := shown.rstrip():
                self._console.file.write(written if self._is_line_open else _INDENT + written)
                self._is_line_open = True
            if line.endswith("\n"):
                self._console.file.write("\n")
                self._is_line_open, self._held = False, ""
        self._console.file.flush()

    def end_output(self) -> None:
        """The command is over, perhaps in the middle of a line."""
        if self._is_line_open:
            self.output("\n")
        self._held = ""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
        for row in rows:
            table.add_row(*map(Text, row))
        with self._console.capture() as drawn:
            self._console.print(table)
        self.output(drawn.get())

    def good(self, text: str) -> None:
        self._console.print(Text(text, style="green"))

    def bad(self, text: str) -> None:
        self._console.print(Text(text, style="bold red"), soft_wrap=True)

    def end_step(self) -> None:
        """Leave a line free; wait for Enter, if that was asked for and someone can press it."""
        if self._pauses:
            with suppress(EOFError):
                self._console.input(Text("(Enter) ", style="dim"))
        else:
            self._console.print()
