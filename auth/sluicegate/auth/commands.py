"""The command line of access control: keys and tokens for development. policy_commands.py has the rest.

Exit codes: 0 done, 1 refused (a token that would not pass, a file that cannot be had), 2 wrong usage. A private key
is never printed; a token only by `token issue`, which is asked for one.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sluicegate.auth.agreement_commands import agreement_app
from sluicegate.auth.claims import PARTNERSHIP, principal_of
from sluicegate.auth.errors import AuthenticationError, IssuingError
from sluicegate.auth.fields import parse_duration
from sluicegate.auth.issuing import (
    DEFAULT_ALGORITHM,
    add_to_key_set,
    create_signing_key,
    issue_token,
    read_signing_key,
    write_signing_key,
)
from sluicegate.auth.policy_commands import policy_app
from sluicegate.auth.terminal import MAX_INPUT_BYTES, JsonFlag, out, print_json, printable, reason_of, stop, token_text
from sluicegate.auth.tokens import ParsedToken, parse_token

__all__ = ["agreement_app", "keys_app", "policy_app", "token_app"]

keys_app = typer.Typer(
    help="Signing keys of the development issuer, and of people who sign policies.", no_args_is_help=True
)
token_app = typer.Typer(help="Access tokens of the development issuer.", no_args_is_help=True)


@keys_app.callback()
def _keys() -> None:
    """Keeps `generate` a command of its own although it is the only one."""


@keys_app.command("generate")
def keys_generate(
    private: Annotated[Path, typer.Option(help="New file for the private key; mode 0600.")],
    public: Annotated[Path, typer.Option(help="JWKS file that gets the public key; made if need be.")],
    algorithm: Annotated[str, typer.Option(help="ES256, EdDSA, RS256 or PS256.")] = DEFAULT_ALGORITHM,
    key_id: Annotated[str | None, typer.Option("--kid", help="Name of the key; random if left out.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key: the private one into a file of its own, the public one into a JWKS file.

    Run it again with another private file to rotate: tokens of both keys are good as long as both stand in
    the JWKS file.
    """
    try:
        key = create_signing_key(algorithm, key_id=key_id)
        write_signing_key(private, key)
    except IssuingError as error:
        stop(str(error))
    try:
        add_to_key_set(public, key)
    except IssuingError as error:
        private.unlink()
        stop(str(error))
    signer = key.public_jwk()["x"] if key.algorithm == "EdDSA" else None
    if as_json:
        made = {"kid": key.key_id, "alg": key.algorithm, "private": str(private), "public": str(public)}
        print_json({**made, "public_key": signer} if signer else made)
        return
    out(f"{key.algorithm} key {key.key_id}: private in {private} (keep it secret), public in {public}")
    if signer:
        out(f"as the public_key of a policy signer: {signer}")


@token_app.command("issue")
def token_issue(
    *,
    key: Annotated[Path, typer.Option(help="Private key of `keys generate`.")],
    issuer: Annotated[str, typer.Option(help="`iss`, as the server trusts it.")],
    audience: Annotated[str, typer.Option(help="`aud`, as the server expects it.")],
    client: Annotated[str, typer.Option(help="`client_id`, as agreements name it.")],
    scope: Annotated[list[str], typer.Option(help="A scope, as generate:gpt2-124m. Repeat for more.")],
    subject: Annotated[str | None, typer.Option(help="`sub`; the client if left out.")] = None,
    lifetime: Annotated[str, typer.Option(help="As 900s, 15m or 1h.")] = "15m",
    agreement: Annotated[str | None, typer.Option(help="Claim this agreement.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Narrow the claim to a model. Repeatable.")] = None,
    purpose: Annotated[str | None, typer.Option(help="Narrow the claim to a purpose.")] = None,
    acr: Annotated[str | None, typer.Option(help="How the caller authenticated.")] = None,
    authenticated_ago: Annotated[
        str | None, typer.Option(help="How long ago, as 10m or 8h; with --acr alone: just now.")
    ] = None,
    thumbprint: Annotated[str | None, typer.Option(help="x5t#S256 of the certificate to bind to.")] = None,
    output: Annotated[Path | None, typer.Option(help="New file (mode 0600) instead of the terminal.")] = None,
) -> None:
    """Sign an access token and print it, and nothing else."""
    if agreement is None and (model or purpose):
        raise typer.BadParameter("--model and --purpose narrow an --agreement; name one")
    detail: dict[str, object] = {"type": PARTNERSHIP, "agreement": agreement}
    if model:
        detail["models"] = model
    if purpose:
        detail["purpose"] = purpose
    now = time.time()
    try:
        token = issue_token(
            read_signing_key(key),
            issuer=issuer,
            audience=audience,
            subject=subject or client,
            client_id=client,
            scopes=scope,
            now=now,
            lifetime_seconds=_seconds(lifetime),
            authorization_details=[detail] if agreement else [],
            authenticated_at=_authenticated_at(now, acr, authenticated_ago),
            acr=acr,
            certificate_thumbprint=thumbprint,
        )
        principal_of(parse_token(token).claims, "")
        if output is not None:
            _write_secret(output, token)
    except IssuingError as error:
        stop(str(error))
    except AuthenticationError as error:
        stop(f"no server would take this token: {reason_of(error)}")
    if output is None:
        out(token)


@token_app.command("inspect")
def token_inspect(
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="File with the token; - for standard input.")],
    as_json: JsonFlag = False,
) -> None:
    """Show what a token says. Nothing is verified: who made it, and whether it is true, stays open.

    The token comes from a file or a pipe, so that it does not end up in the shell's history.
    """
    try:
        parsed = parse_token(token_text(file.read(MAX_INPUT_BYTES)))
    except AuthenticationError as error:
        stop(f"not a token that the server would read: {reason_of(error)}")
    problem: str | None = None
    try:
        principal_of(parsed.claims, "")
    except AuthenticationError as error:
        problem = reason_of(error)
    if as_json:
        print_json({"verified": False, "header": parsed.header, "claims": parsed.claims, "refused_for": problem})
    else:
        _show_token(parsed, problem)
    raise typer.Exit(1 if problem else 0)


def _authenticated_at(now: float, acr: str | None, ago: str | None) -> int | None:
    """`auth_time`; None where nothing is said of an authentication."""
    if ago is not None:
        return int(now) - _seconds(ago)
    return int(now) if acr else None


def _seconds(duration: str) -> int:
    try:
        return parse_duration(duration)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _write_secret(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise IssuingError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")


def _show_token(parsed: ParsedToken, problem: str | None) -> None:
    console = Console()
    console.print(Text("NOT VERIFIED: anybody could have written this.", style="bold yellow"))
    table = Table("part", "name", "value", box=None)
    for part, members in (("header", parsed.header), ("claims", parsed.claims)):
        for name, value in members.items():
            table.add_row(part, Text(printable(name)), Text(printable(_readable(name, value))))
    console.print(table)
    if problem:
        console.print(Text(f"The server would refuse it: {problem}", style="bold red"))


def _readable(name: str, value: object) -> str:
    if name in ("iat", "exp", "nbf", "auth_time") and type(value) is int and 0 <= value < 253402300800:
        return f"{value} ({datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC)"
    return value if isinstance(value, str) else json.dumps(value)
