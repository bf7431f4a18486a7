"""Files that the commands of a policy are given beside it: a trust root to check signatures against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.auth.documents import DocumentError, parse_document
from sluicegate.auth.errors import ConfigurationError, PolicyError
from sluicegate.auth.fields import Listing, Name, Terms
from sluicegate.auth.loading import validated
from sluicegate.auth.signatures import MIN_TRANSITION_SIGNERS, TrustRoot, trust_root

PolicyDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory with release.yaml.")]
TrustFile = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="FILE",
        help="Check signatures by this file: policy.signatures of the server's settings, alone.",
    ),
]


class _Signer(Terms):
    id: Name
    public_key: Name


class _TrustSettings(Terms):
    """`policy.signatures` of the server's settings, in a file of its own."""

    deployment: Name
    threshold: int = MIN_TRANSITION_SIGNERS
    signers: Listing[_Signer]


def read_trust(path: Path | None) -> TrustRoot | None:
    """The trust root of the file; None, so no check, without one. Raises BadParameter."""
    if path is None:
        return None
    try:
        settings = validated(_TrustSettings, str(path), parse_document(read_input(path)))
        keys = {signer.id: signer.public_key for signer in settings.signers}
        if len(keys) != len(settings.signers):
            raise typer.BadParameter(f"{path}: a signer is listed twice")
        return trust_root(settings.deployment, keys, settings.threshold)
    except PolicyError as error:
        raise typer.BadParameter(str(error)) from error
    except (DocumentError, ConfigurationError) as error:
        raise typer.BadParameter(f"{path}: {error}") from error


def read_input(path: Path) -> bytes:
    """The whole file. Raises BadParameter."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from error
