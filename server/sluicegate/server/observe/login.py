"""HTTP Basic authentication (RFC 7617) of the metrics endpoint: one user, with a password in a file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path

import structlog

from sluicegate.server.errors import SettingsError
from sluicegate.server.private_files import read_secret_line

LEAST_PASSWORD_BYTES, MOST_PASSWORD_BYTES = 16, 1024
CHALLENGE = 'Basic realm="sluicegate metrics", charset="UTF-8"'

log = structlog.get_logger()


def read_password(path: Path) -> bytes:
    """The file's one line. Raises SettingsError for a short one, and if everybody could read the file."""
    return read_secret_line(
        path,
        "metrics.basic_auth.password_file",
        least_bytes=LEAST_PASSWORD_BYTES,
        most_bytes=MOST_PASSWORD_BYTES,
    )


class Login:
    """Whom the endpoint answers. The file is read for each request, so that a new password counts at once.

    While it cannot be used, nobody is let in. Neither right nor wrong passwords are logged.
    """

    def __init__(self, user: str, password_file: Path) -> None:
        """Raises SettingsError if the file cannot be used now."""
        self._user = user.encode()
        self._password_file = password_file
        self._told: str | None = None
        read_password(password_file)

    def admits(self, authorization: str | None) -> bool:
        """Whether an `Authorization` header has the user and the password, compared in constant time."""
        try:
            wanted = self._user + b":" + read_password(self._password_file)
        except SettingsError as error:
            if str(error) != self._told:  # strangers make requests
                self._told = str(error)
                log.error("metrics_password_unusable", problem=self._told)
            return False
        self._told = None
        # Digests, since the time that a comparison takes tells of different lengths.
        return hmac.compare_digest(_digest(_credentials(authorization)), _digest(wanted))


def _credentials(authorization: str | None) -> bytes:
    """What stands behind `Basic`, decoded; empty for anything else."""
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
