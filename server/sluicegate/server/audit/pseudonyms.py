"""Names of people and clients that only a holder of the secret can tell from each other's.

The same caller has the same pseudonym in all entries, and in all logs that are written with the same secret. A reader
of a log cannot try out names, since a pseudonym is a keyed hash (HMAC-SHA256, RFC 2104); a plain one of so few names
would be undone by listing them.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Literal

import rfc8785

from sluicegate.auth import Principal
from sluicegate.auth.encoding import decode_base64url, encode_base64url
from sluicegate.server.audit.errors import AuditSetupError

SECRET_BYTES = 32

_DOMAIN = "sluicegate/audit-pseudonym/v1"
Kind = Literal["client", "subject", "token"]

_DIGITS = 32  # 128 bits: two callers of one log do not meet in one


class Pseudonyms:
    """Makes pseudonyms with one secret. None where there is nothing to name: a call without a token."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SECRET_BYTES:
            raise AuditSetupError(f"the secret of pseudonyms needs at least {SECRET_BYTES} octets")
        self._secret = secret

    def client(self, principal: Principal) -> str | None:
        return self.of("client", principal.issuer, principal.client_id)

    def subject(self, principal: Principal) -> str | None:
        return self.of("subject", principal.issuer, principal.subject)

    def token(self, principal: Principal) -> str | None:
        """Of the token's `jti`."""
        return self.of("token", principal.issuer, principal.token_id)

    def of(self, kind: Kind, issuer: str, name: str) -> str | None:
        """Of a name that an issuer gave; None for an empty one."""
        if not name:
            return None
        message = rfc8785.dumps([_DOMAIN, kind, issuer, name])
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:_DIGITS]


def create_secret(path: Path) -> None:
    """Write a new secret, readable by its owner only. Raises AuditSetupError rather than replace a file."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise AuditSetupError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(encode_base64url(secrets.token_bytes(SECRET_BYTES)) + "\n")


def read_secret(path: Path) -> bytes:
    """The secret that `create_secret` wrote. Raises AuditSetupError, also if others could read the file."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise AuditSetupError(f"{path} can be read by others; run: chmod 600 {path}")
            return decode_base64url(file.read(1024).decode("ascii").strip())
    except OSError as error:
        raise AuditSetupError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise AuditSetupError(f"{path} is no secret of ours") from error
