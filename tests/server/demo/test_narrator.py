from __future__ import annotations

import pytest

from sluicegate.server.demo.narrator import Narrator


@pytest.fixture
def narrator() -> Narrator:
    return Narrator(plain=True, pauses=False)


def test_output_is_indented_line_by_line_however_it_is_cut(
    narrator: Narrator, capsys: pytest.CaptureFixture[str]
) -> None:
    for piece in ("It was", " a truth\nuniver", "sally", "\n\nacknowledged"):
        narrator.output(piece)
    narrator.end_output()

    assert capsys.readouterr().out == "    It was a truth\n    universally\n\n    acknowledged\n"


def test_output_is_written_at_once(narrator: Narrator, capsys: pytest.CaptureFixture[str]) -> None:
    narrator.output("It was")

    assert capsys.readouterr().out == "    It was"


def test_padding_at_the_end_of_lines_is_left_out(narrator: Narrator, capsys: pytest.CaptureFixture[str]) -> None:
    for piece in ("one  ", "  two   ", "  \n", "   three   "):
        narrator.output(piece)
    narrator.end_output()

    assert capsys.readouterr().out == "    one    two\n       three\n"


def test_what_a_terminal_would_obey_is_left_out(narrator: Narrator, capsys: pytest.CaptureFixture[str]) -> None:
    narrator.output("a\x1b[31mred\x07 \u202eback\r\n")

    assert capsys.readouterr().out == "    a[31mred back\n"


def test_commands_are_never_broken(narrator: Narrator, capsys: pytest.CaptureFixture[str]) -> None:
    line = "sluicegate generate " + "word " * 60 + "[bold]end"

    narrator.command(line)

    assert capsys.readouterr().out == f"$ {line}\n"


def test_tables_line_up_and_have_no_padding_at_their_right(
    narrator: Narrator, capsys: pytest.CaptureFixture[str]
) -> None:
    narrator.table(("name", "n"), [("long name", "1"), ("[x]", "20")])

    assert capsys.readouterr().out == "    name       n\n    long name  1\n    [x]        20\n"


def test_a_terminal_gets_styles_and_whole_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    styled = Narrator(plain=False, pauses=False)

    styled.good("good")
    styled.table(("name",), [("long name",)])

    good, *table = capsys.readouterr().out.splitlines()
    assert good.startswith("\x1b[")
    assert table == ["    name", "    long name"]


def test_a_plain_narrator_sends_a_terminal_nothing_but_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")

    Narrator(plain=True, pauses=False).title("The end")

    assert capsys.readouterr().out == "The end\n"
