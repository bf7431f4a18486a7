"""Errors of the audit log.

ServerError
├── CallRefused
│   └── AuditUnavailable   an entry is not durable: the call must not go on, unless the policy lets it
└── AuditError
    ├── AuditSetupError    the directory or a secret is not fit for use: put it right before the start
    ├── AuditLogInUse      another process writes this log: give each replica a directory of its own
    └── AuditLogDamaged    the log is not one that a crash leaves behind: verify it, keep it, start a new one
"""

from __future__ import annotations

import errno
from enum import StrEnum

from sluicegate.auth import Reason
from sluicegate.server.errors import CallRefused, ServerError

RETRY_SECONDS = 2.0
"""After which a call may try again: the log itself tries every second."""


class Cause(StrEnum):
    """Why an entry could not be made durable: a closed set, fit for a metric's label."""

    DISK_FULL = "disk_full"
    READ_ONLY = "read_only"
    IO_ERROR = "io_error"
    TIMEOUT = "timeout"
    """The disk did not answer in time."""
    QUEUE_FULL = "queue_full"
    """More calls wait, or are open, than the log holds."""
    CLOSED = "closed"


_CAUSES = {
    errno.ENOSPC: Cause.DISK_FULL,
    errno.EDQUOT: Cause.DISK_FULL,
    errno.EFBIG: Cause.DISK_FULL,
    errno.EROFS: Cause.READ_ONLY,
    errno.EACCES: Cause.READ_ONLY,
    errno.EPERM: Cause.READ_ONLY,
}


def cause_of(error: OSError) -> Cause:
    """The cause that a failed write counts as."""
    return _CAUSES.get(error.errno or 0, Cause.IO_ERROR)


class AuditUnavailable(CallRefused):
    """An entry could not be made durable (row 21 of the decision order)."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(Reason.AUDIT_UNAVAILABLE, retry_after_seconds=RETRY_SECONDS)
        self.cause = cause


class AuditError(ServerError):
    """Root of what keeps a log from being opened."""


class AuditSetupError(AuditError):
    """A directory or a secret is missing, or others than the server could read or change it."""


class AuditLogInUse(AuditError):
    """Another process has the log open."""


class AuditLogDamaged(AuditError):
    """The log on disk is not what this server wrote, less what a crash can take."""
