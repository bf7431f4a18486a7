"""`sluicegate withdraw`: operators close a door at once. Nothing asks back: a second thought is a lifting."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import SEE, reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import write, write_json
from sluicegate.client.commands.withdrawals import described, lift, list_withdrawals, plain, shown_time
from sluicegate.client.errors import ConfigurationError
from sluicegate.client.withdrawals import (
    AgreementTarget,
    ClientTarget,
    IssuedBeforeTarget,
    KeyTarget,
    ModelTarget,
    StageTarget,
    SubjectTarget,
    TokenTarget,
    Withdrawal,
    WithdrawalTarget,
)

_MAX_TOKEN_BYTES = 64 << 10

Issuer = Annotated[str, typer.Option("--iss", metavar="ISSUER", help="Whose it is: `iss` of its tokens.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What every way of closing takes."""

    justification: Annotated[
        str, typer.Option("--justification", metavar="TEXT", help="Why, for those who read the list later.")
    ]
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the request and close nothing.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False


@with_option_groups
@reported()
def token(
    *,
    iss: Annotated[str | None, typer.Option("--iss", metavar="ISSUER", help="`iss` of the tokens.")] = None,
    jti: Annotated[str | None, typer.Option("--jti", metavar="ID", help="One token, by its `jti`.")] = None,
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", metavar="FILE", help="One token, the one in this file; it is not sent."),
    ] = None,
    issued_before: Annotated[
        str | None,
        typer.Option(
            "--issued-before", metavar="TIME", help="All with an earlier `iat`. A time with its zone, or now."
        ),
    ] = None,
    client: Annotated[str | None, typer.Option("--client", help="Of all these, only those of this client.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Of all these, only those of this subject.")] = None,
    closing: Closing,
    connection: Connection,
) -> None:
    """Close one token, or all that were issued before a time.

    sluicegate withdraw token --from-file leaked.token --justification "Found in a log."

    sluicegate withdraw token --iss https://issuer.example --jti 7f3a --justification "Found in a log."

    sluicegate withdraw token --iss https://issuer.example --issued-before now --justification "Break-in."

    Without --client or --subject the last one closes your own token too, if it is of that issuer.
    """
    if issued_before is None and (client is not None or subject is not None):
        raise ConfigurationError("--client and --subject go with --issued-before")
    target: WithdrawalTarget
    match jti, from_file, issued_before:
        case str(token_id), None, None:
            target = TokenTarget(_required(iss), token_id)
        case None, Path() as path, None:
            target = _token_in(path)
        case None, None, str(time):
            target = IssuedBeforeTarget(_required(iss), _time(time), client, subject)
        case _:
            raise ConfigurationError("give exactly one of --jti, --from-file and --issued-before")
    if from_file is not None and iss is not None:
        raise ConfigurationError("--from-file goes without --iss: the token says whose it is")
    close(target, closing, connection)


@with_option_groups
@reported()
def client(
    name: Annotated[str, typer.Argument(metavar="CLIENT", help="`client_id` of its tokens.")],
    *,
    iss: Issuer,
    closing: Closing,
    connection: Connection,
) -> None:
    """Close a client, whatever token it brings.

    sluicegate withdraw client some-app --iss https://issuer.example --justification "Spam."
    """
    close(ClientTarget(iss, name), closing, connection)


@with_option_groups
@reported()
def subject(
    name: Annotated[str, typer.Argument(metavar="SUBJECT", help="`sub` of its tokens.")],
    *,
    iss: Issuer,
    closing: Closing,
    connection: Connection,
) -> None:
    """Close a subject, whatever token it brings.

    sluicegate withdraw subject mallory --iss https://issuer.example --justification "Spam."
    """
    close(SubjectTarget(iss, name), closing, connection)


@with_option_groups
@reported()
def key(
    name: Annotated[str, typer.Argument(metavar="KID", help="`kid` of the tokens that it signs.")],
    *,
    iss: Issuer,
    closing: Closing,
    connection: Connection,
) -> None:
    """Close a signing key of an issuer: all tokens that it signed or will sign.

    sluicegate withdraw key key-2026-01 --iss https://issuer.example --justification "Key stolen."
    """
    close(KeyTarget(iss, name), closing, connection)


@with_option_groups
@reported()
def agreement(
    name: Annotated[str, typer.Argument(metavar="ID", help="As the policy has it.")],
    *,
    closing: Closing,
    connection: Connection,
) -> None:
    """Close an agreement. Its clients are still the public; `withdraw client` closes one.

    sluicegate withdraw agreement agr-example-lab-2026-01 --justification "Terms broken."
    """
    close(AgreementTarget(name), closing, connection)


@with_option_groups
@reported()
def model(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="As the policy has it.")],
    *,
    closing: Closing,
    connection: Connection,
) -> None:
    """Close a model, to every caller.

    sluicegate withdraw model gpt2-774m --justification "Misuse is being looked into."
    """
    close(ModelTarget(name), closing, connection)


@with_option_groups
@reported()
def stage(
    name: Annotated[str, typer.Argument(metavar="EARLIER", help="The stage to go back to, as the policy has it.")],
    *,
    closing: Closing,
    connection: Connection,
) -> None:
    """Go back to an earlier stage: what it does not open is closed.

    sluicegate withdraw stage s1 --justification "s2 was opened too soon."
    """
    close(StageTarget(name), closing, connection)


def build_withdraw() -> typer.Typer:
    """The commands for operators. Each needs a token with the scope `release:withdraw`."""
    app = typer.Typer(no_args_is_help=True)
    app.callback()(_withdraw)
    for command in (token, client, subject, key, agreement, model, stage, lift):
        app.command(epilog=SEE)(command)
    app.command("list", epilog=SEE)(list_withdrawals)
    return app


def _withdraw() -> None:
    """Close something at once, in running calls too; see what is closed; take it back.

    For operators: the token needs the scope release:withdraw.
    """


def close(target: WithdrawalTarget, closing: Closing, connection: Connection) -> None:
    """Create the withdrawal, and say so."""
    made = asyncio.run(_made(target, closing, connection))
    what = described(made.target)
    if closing.as_json:
        write_json({**plain(made), "id": None if closing.dry_run else made.id})
    elif closing.dry_run:
        write(f"would be closed: {what}\n")
    else:
        until = f", until {shown_time(made.expires)}" if made.expires is not None else ""
        write(f"closed: {what}\n  withdrawal {made.id}{until}\n")


async def _made(target: WithdrawalTarget, closing: Closing, connection: Connection) -> Withdrawal:
    async with connection.client() as client:
        return await client.create_withdrawal(target, closing.justification, validate_only=closing.dry_run)


def _required(iss: str | None) -> str:
    if iss is None:
        raise ConfigurationError("--iss is missing: ids and times count together with their issuer")
    return iss


def _time(text: str) -> datetime | None:
    """The time; None for now, which the server's clock tells."""
    if text == "now":
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ConfigurationError("--issued-before takes a time with its zone, as 2026-01-20T09:00:00Z, or `now`")
    return time


def _token_in(path: Path) -> TokenTarget:
    """The token in a file, by what it says of itself. It is not verified: closing a false one does no harm."""
    try:
        with path.open("rb") as file:
            _, claims, _ = file.read(_MAX_TOKEN_BYTES).split(b".")
        said = json.loads(base64.urlsafe_b64decode(claims + b"=" * (-len(claims) % 4)))
        issuer, token_id = said["iss"], said["jti"]
    except OSError as fault:
        raise ConfigurationError(f"{path} cannot be read: {fault.strerror}") from fault
    except (ValueError, LookupError, TypeError, RecursionError):
        # The parsers' own texts would quote the file.
        raise ConfigurationError(f"{path} has no access token with `iss` and `jti`") from None
    if not (isinstance(issuer, str) and isinstance(token_id, str)):
        raise ConfigurationError(f"{path} has no access token with `iss` and `jti`")
    return TokenTarget(issuer, token_id)
