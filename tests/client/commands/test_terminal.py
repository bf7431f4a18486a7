from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime

import pytest

from sluicegate.client.commands.terminal import MAX_PROMPT_BYTES, as_json, given_text, safe, write, write_table
from sluicegate.client.errors import ConfigurationError
from sluicegate.client.results import FinishReason, Token, TopToken


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    return raw


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\n\tb", "a\n\tb"),
        ("a\x1b[31mb\x1b]0;title\x07", "a[31mb]0;title"),
        ("a\rb\r\n", "ab\n"),
        ("\x00\x08\x7f\x9b31m", "31m"),
        ("\u202ereversed\u2066", "reversed"),
        ("naïve \N{SNOWMAN} 日本", "naïve \N{SNOWMAN} 日本"),
    ],
)
def test_text_that_would_steer_a_terminal_loses_only_that(text: str, left: str) -> None:
    assert safe(text) == left


def test_a_terminal_gets_safe_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)

    write("a\x1b[2Jb\n")

    assert terminal.getvalue() == "a[2Jb\n"


def test_a_file_gets_the_text_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)

    write("a\x1b[2Jb\r\n")

    assert file.getvalue() == "a\x1b[2Jb\r\n"


def test_results_become_json_with_bytes_named_for_their_encoding() -> None:
    token = Token(id=1, bytes=b"\xff", log_probability=-0.5, top=(TopToken(2, b"a", -1.0),))

    assert json.loads(
        as_json({"tokens": (token,), "why": FinishReason.STOP, "at": datetime(2026, 1, 2, tzinfo=UTC)})
    ) == {
        "tokens": [
            {
                "id": 1,
                "bytes_base64": "/w==",
                "log_probability": -0.5,
                "top": [{"id": 2, "bytes_base64": "YQ==", "log_probability": -1.0}],
            }
        ],
        "why": "STOP",
        "at": "2026-01-02T00:00:00+00:00",
    }


def test_json_is_ascii() -> None:
    assert as_json({"text": "é\x9b\u202e"}).isascii()


def test_a_table_in_a_file_has_one_line_a_row_and_takes_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)

    write_table(("name", "value"), [("[bold]x[/bold]", "y" * 120), ("\x1b[2J", "z")])

    lines = [line.split() for line in file.getvalue().splitlines()]
    assert lines == [["name", "value"], ["[bold]x[/bold]", "y" * 120], ["[2J", "z"]]


def test_a_narrow_terminal_breaks_cells_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    row = ["a" * 24, "b" * 24, "c" * 24]

    write_table(("one", "two", "three"), [row])

    shown = terminal.getvalue()
    assert all(len(line) <= 40 for line in shown.splitlines())
    assert [shown.count(letter) for letter in "abc"] == [24, 24, 24]


def test_an_argument_is_taken_as_it_is() -> None:
    assert given_text("text\n") == "text\n"


@pytest.mark.parametrize("argument", [None, "-"])
@pytest.mark.parametrize(("raw", "text"), [(b"Once", "Once"), (b"Once\n", "Once"), (b"Once\n\n", "Once\n")])
def test_standard_input_is_taken_less_one_newline(
    stdin: io.BytesIO, argument: str | None, raw: bytes, text: str
) -> None:
    stdin.write(raw)
    stdin.seek(0)

    assert given_text(argument) == text


@pytest.mark.parametrize("raw", [b"", b"\n", b"\xff", b"x" * (MAX_PROMPT_BYTES + 2)])
def test_standard_input_without_usable_text_is_refused(stdin: io.BytesIO, raw: bytes) -> None:
    stdin.write(raw)
    stdin.seek(0)

    with pytest.raises(ConfigurationError):
        given_text(None)


def test_the_longest_text_may_end_in_a_newline(stdin: io.BytesIO) -> None:
    stdin.write(b"x" * MAX_PROMPT_BYTES + b"\n")
    stdin.seek(0)

    assert len(given_text(None)) == MAX_PROMPT_BYTES
