"""The key that signs checkpoints."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sluicegate.auth import IssuingError, read_signing_key
from sluicegate.server.audit.errors import AuditSetupError


def read_key(path: Path) -> Ed25519PrivateKey:
    """The key in a file that `keys generate --algorithm EdDSA` wrote. Raises AuditSetupError."""
    try:
        key = read_signing_key(path).private_key
    except IssuingError as error:
        raise AuditSetupError(str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditSetupError(
            f"{path}: checkpoints need an Ed25519 key; run: sluicegate keys generate --algorithm EdDSA"
        )
    return key
