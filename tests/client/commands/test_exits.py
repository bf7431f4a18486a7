from __future__ import annotations

import inspect

import grpc
import pytest
import typer

from sluicegate.client import errors
from sluicegate.client.commands.exits import MEANINGS, Exit, epilog, exit_for, explained, reported
from sluicegate.client.results import Usage

CODES = {
    errors.ConfigurationError: 2,
    errors.InsecureTransport: 2,
    errors.TokenUnavailable: 3,
    errors.TokenRefused: 3,
    errors.IssuerUnavailable: 6,
    errors.EvaluationError: 8,
    errors.FileRefused: 2,
    errors.MeasurementRefused: 8,
    errors.AuthenticationFailed: 3,
    errors.AccessDenied: 4,
    errors.InvalidRequest: 1,
    errors.QuotaExceeded: 5,
    errors.Unavailable: 6,
    errors.Cancelled: 6,
    errors.DeadlineExceeded: 7,
    errors.ReaderStalled: 7,
    errors.ServerFault: 8,
}


def example(kind: type[errors.SluicegateError]) -> errors.SluicegateError:
    return kind("text", code=grpc.StatusCode.UNKNOWN) if issubclass(kind, errors.CallError) else kind("text")


def test_the_table_of_errors_is_complete() -> None:
    kinds = {
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SluicegateError)
    }

    assert kinds - {errors.SluicegateError, errors.CallError} == set(CODES)


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_each_error_has_its_exit_code(kind: type[errors.SluicegateError], code: int) -> None:
    with pytest.raises(typer.Exit) as caught, reported():
        raise example(kind)

    assert caught.value.exit_code == exit_for(example(kind)) == code


def test_every_exit_code_is_explained_in_the_help() -> None:
    assert set(MEANINGS) == set(Exit)
    assert all(f"{code.value:>3}  {meaning}" in epilog() for code, meaning in MEANINGS.items())


def test_the_help_says_what_bad_settings_of_a_server_are() -> None:
    assert epilog().endswith("Server and operator: 1 refused or failed, bad settings included; 2 wrong usage.")


def test_an_interrupt_is_130() -> None:
    with pytest.raises(typer.Exit) as caught, reported():
        raise KeyboardInterrupt

    assert caught.value.exit_code == 130


def test_a_defect_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), reported():
        raise ZeroDivisionError


def test_a_call_error_is_told_in_two_lines_what_why_and_what_to_do() -> None:
    error = errors.AccessDenied(
        "the token lacks the scope",
        code=grpc.StatusCode.PERMISSION_DENIED,
        reason="SCOPE_MISSING",
        metadata={"required_scope": "generate:m"},
        field_violations=[errors.FieldViolation("model", "too long")],
        retry_after=1.5,
        request_id="0192",
        usage=Usage(prompt_tokens=3, output_tokens=9),
    )

    assert explained(error) == (
        "sluicegate: the token lacks the scope; model: too long (SCOPE_MISSING)\n"
        "  get a token that has the scope `generate:m`; the server names 1.5 s as the time to wait; "
        "9 output tokens were counted; request 0192"
    )


def test_what_an_error_quotes_cannot_steer_the_terminal() -> None:
    assert explained(errors.TokenUnavailable("a\x1b[2Jb")) == "sluicegate: a[2Jb"
