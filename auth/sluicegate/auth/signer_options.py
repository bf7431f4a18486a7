"""Options of the commands that sign: who, with which key, for which deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sluicegate.auth.errors import SigningError
from sluicegate.auth.issuing import read_signing_key

KeyFile = Annotated[Path, typer.Option("--key", help="Signer's private key: `keys generate --algorithm EdDSA`.")]
Signer = Annotated[str, typer.Option("--signer", help="Signer's id, as the server's settings name it.")]
Deployment = Annotated[str, typer.Option("--deployment", help="Deployment, as the server's settings name it.")]


def read_signers_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file. Raises IssuingError for what is no key of ours, SigningError for one of an issuer."""
    key = read_signing_key(path)
    if not isinstance(key.private_key, Ed25519PrivateKey):
        raise SigningError(f"{path} is an {key.algorithm} key; a signer's is made by `keys generate --algorithm EdDSA`")
    return key.private_key
