"""What the commands that read pages are told: credentials and authorities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import httpx
import typer

from sluicegate.server.fetching import Access, parse_page_url, shows_password, tls_context

MAX_PASSWORD_BYTES = 4096

User = Annotated[str | None, typer.Option(help="For HTTP basic authentication; with --password-file.")]
PasswordFile = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Its first line is the password.", metavar="FILE")
]
Ca = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="PEM file of the authorities that vouch for the server.", metavar="FILE"
    ),
]


def page_url(text: str) -> httpx.URL:
    """For typer. Raises BadParameter."""
    try:
        return parse_page_url(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}") from error


def access_of(urls: Sequence[httpx.URL], user: str | None, password_file: Path | None, ca: Path | None) -> Access:
    """How these pages are to be asked for. Raises BadParameter for what cannot be, or should not."""
    if (user is None) != (password_file is None):
        raise typer.BadParameter("--user and --password-file come together")
    password = None if password_file is None else _password(password_file)
    if password is not None and (exposed := [url for url in urls if shows_password(url)]):
        raise typer.BadParameter(f"a password would go to {exposed[0].host} in the clear: use https://")
    access = Access(user, password, ca)
    try:
        tls_context(access)
    except OSError:
        raise typer.BadParameter(f"{ca} is no PEM file of certificates", param_hint="--ca") from None
    return access


def _password(path: Path) -> str:
    try:
        with path.open("rb") as file:
            line = file.read(MAX_PASSWORD_BYTES + 1).partition(b"\n")[0].rstrip(b"\r")
        if not 0 < len(line) <= MAX_PASSWORD_BYTES:
            raise ValueError
        return line.decode("utf-8")
    except (OSError, ValueError):
        raise typer.BadParameter(f"{path} has no password in its first line", param_hint="--password-file") from None
