"""How a command ends: the one table of exit codes, and what is said on the way out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum, unique
from types import MappingProxyType

import typer

from sluicegate.client import errors
from sluicegate.client.commands.terminal import note, safe


@unique
class Exit(IntEnum):
    """The exit codes of `sluicegate`."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNAUTHENTICATED = 3
    DENIED = 4
    QUOTA = 5
    UNAVAILABLE = 6
    LATE = 7
    FAULT = 8
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANINGS: Mapping[Exit, str] = MappingProxyType(
    {
        Exit.OK: "done; `check`: the call would be allowed",
        Exit.REFUSED: "the request is at fault; `check`: refused; `batch`: an item failed",
        Exit.USAGE: "wrong usage or settings, or an extra is not installed",
        Exit.UNAUTHENTICATED: "the token is missing or not accepted",
        Exit.DENIED: "the caller may not do this",
        Exit.QUOTA: "a limit of the caller's is reached",
        Exit.UNAVAILABLE: "the server or the issuer does not answer now",
        Exit.LATE: "the time was over, or the output was not read in time",
        Exit.FAULT: "the server, or something in front of it, failed",
        Exit.INTERRUPTED: "interrupted (Ctrl-C)",
        Exit.PIPE_CLOSED: "whoever read the output has gone",
    }
)

SEE = "`sluicegate --help` lists the exit codes."
"""The end of each command's help."""
OTHERS = "Server and operator: 1 refused or failed, bad settings included; 2 wrong usage."
"""What two of the codes mean to the commands that other parts bring along."""

_EXITS: Mapping[type[errors.SluicegateError], Exit] = {
    errors.ConfigurationError: Exit.USAGE,
    errors.IssuerUnavailable: Exit.UNAVAILABLE,
    errors.TokenUnavailable: Exit.UNAUTHENTICATED,
    errors.FileRefused: Exit.USAGE,
    errors.EvaluationError: Exit.FAULT,
    errors.AuthenticationFailed: Exit.UNAUTHENTICATED,
    errors.AccessDenied: Exit.DENIED,
    errors.InvalidRequest: Exit.REFUSED,
    errors.QuotaExceeded: Exit.QUOTA,
    errors.Unavailable: Exit.UNAVAILABLE,
    errors.DeadlineExceeded: Exit.LATE,
    errors.Cancelled: Exit.UNAVAILABLE,
    errors.ReaderStalled: Exit.LATE,
    errors.ServerFault: Exit.FAULT,
}


def exit_for(error: errors.SluicegateError) -> Exit:
    """The code for an error: its own row, or that of the class it is a kind of."""
    return next((_EXITS[kind] for kind in type(error).__mro__ if kind in _EXITS), Exit.FAULT)


def epilog() -> str:
    """The table for `--help`; blank lines keep its rows apart."""
    rows = (f"{code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
    return "\n\n".join(["Exit codes:", *rows, OTHERS])


def explained(error: errors.SluicegateError) -> str:
    """One or two lines: what, and why; then what to do, and what to quote to the operator."""
    if not isinstance(error, errors.CallError):
        return f"sluicegate: {safe(str(error))}"
    fields = "".join(f"; {each.field}: {each.description}" for each in error.field_violations)
    what = f"sluicegate: {error.message or error.code.name}{fields} ({error.reason or error.code.name})"
    facts = [error.remedy]
    if error.retry_after is not None:
        facts.append(f"the server names {error.retry_after:.3g} s as the time to wait")
    if error.usage is not None and error.usage.output_tokens:
        facts.append(f"{error.usage.output_tokens} output tokens were counted")
    if error.request_id is not None:
        facts.append(f"request {error.request_id}")
    return f"{safe(what)}\n  {safe('; '.join(facts))}"


@contextmanager
def reported() -> Iterator[None]:
    """Turn every foreseeable end of a command into its exit code, with the error on stderr."""
    try:
        yield
    except errors.SluicegateError as error:
        note(explained(error))
        raise typer.Exit(exit_for(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        _drop_output()
        raise typer.Exit(Exit.PIPE_CLOSED) from None
    except OSError as error:  # files that are named were tried before: this is stdin, stdout or a disk that is full
        _drop_output()
        note(f"sluicegate: input or output failed: {error.strerror}")
        raise typer.Exit(Exit.USAGE) from None


def _drop_output() -> None:
    """Python flushes stdout once more as it exits; without this it would complain there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
