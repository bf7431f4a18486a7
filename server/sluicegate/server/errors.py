"""Errors of the front end.

ServerError
├── CallRefused      the call ends here with a Reason; rpc/status.py turns it into a status
├── SettingsError    the settings do not allow a start; lists every problem
├── CheckpointError  a model's files are missing or unusable
└── PageError        a page of another server could not be had
    ├── PageUnreachable  nobody answered in time: it may later
    └── PageUnusable     what was answered is of no use: another URL, or other credentials
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluicegate.auth import Reason


class ServerError(Exception):
    """Root of the front end's errors."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that breaks its rule. `field` is its path in the request, `description` says what is allowed."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaFailure:
    """The quota that has no room, and its limit."""

    quota: str
    limit: int


class CallRefused(ServerError):
    """A call that cannot go on, before it began or in mid-stream.

    `detail` holds facts that the caller may know; the public text is fixed by the reason. `retry_after_seconds`: when
    trying again can help.
    """

    def __init__(
        self,
        reason: Reason,
        detail: Mapping[str, str] | None = None,
        *,
        violations: Sequence[FieldViolation] = (),
        quota: QuotaFailure | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.detail = dict(detail or {})
        self.violations = tuple(violations)
        self.quota = quota
        self.retry_after_seconds = retry_after_seconds


class SettingsError(ServerError):
    """The settings do not allow a start."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class CheckpointError(ServerError):
    """A model's files are missing or unusable; the text says what to do."""


class PageError(ServerError):
    """A page could not be had. The text says why, without credentials."""


class PageUnreachable(PageError):
    """Nobody answered in time: it may later."""


class PageUnusable(PageError):
    """What was answered is of no use: another URL, or other credentials, are needed."""
