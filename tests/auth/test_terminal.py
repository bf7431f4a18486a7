"""What the commands write: one line, nothing that a terminal would obey."""

from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.auth import AuthenticationError, Problem, Reason
from sluicegate.auth.terminal import printable, reason_of, show_problems, stop, token_text, with_facts


@given(st.text())
def test_what_is_shown_is_printable_and_no_shorter(text: str) -> None:
    shown = printable(text)

    assert shown.isprintable()
    assert len(shown) == len(text)


def test_a_reason_comes_with_its_facts() -> None:
    assert with_facts("TOKEN_EXPIRED", {}) == "TOKEN_EXPIRED"
    assert reason_of(AuthenticationError(Reason.STEP_UP_REQUIRED, {"max_age": "60", "acr_values": "a b"})) == (
        "STEP_UP_REQUIRED max_age=60, acr_values=a b"
    )


def test_stopping_says_why_on_standard_error_and_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        stop("no\x1b[2J")

    assert caught.value.exit_code == 1
    assert capsys.readouterr() == ("", "sluicegate: no\N{REPLACEMENT CHARACTER}[2J\n")


def test_each_problem_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_problems([Problem("release.yaml", "active", "is\nmissing"), Problem("agreements", "", "cannot be read")])

    assert capsys.readouterr().err.splitlines() == [
        "release.yaml: active: is\N{REPLACEMENT CHARACTER}missing",
        "agreements: cannot be read",
    ]


@pytest.mark.parametrize(("raw", "text"), [(b" a.b.c\r\n", "a.b.c"), (b"\xff", "\N{REPLACEMENT CHARACTER}"), (b"", "")])
def test_the_token_of_a_file_stands_without_the_line_s_end(raw: bytes, text: str) -> None:
    assert token_text(raw) == text
