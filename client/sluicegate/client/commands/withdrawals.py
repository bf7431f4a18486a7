"""`sluicegate withdraw list` and `sluicegate withdraw lift`: what is closed, and how it is opened again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, assert_never

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import members, note, safe, write, write_json, write_table
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

_COLUMNS = ("id", "closed", "since", "until", "operator", "justification")


@with_option_groups
@reported()
def list_withdrawals(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    connection: Connection,
) -> None:
    """Show everything that is closed now, the oldest first."""
    found = asyncio.run(_listed(connection))
    if as_json:
        write_json([plain(each) for each in found])
    elif found:
        write_table(_COLUMNS, (_row(each) for each in found))
    else:
        write("nothing is closed\n")


@with_option_groups
@reported()
def lift(
    withdrawal: Annotated[str, typer.Argument(metavar="ID", help="As `sluicegate withdraw list` shows it.")],
    *,
    justification: Annotated[str, typer.Option(metavar="TEXT", help="Why.")],
    signature: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIGNER=VALUE", help="As `sluicegate policy sign-lifting` prints it; once for each signer."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the request and lift nothing.")] = False,
    connection: Connection,
) -> None:
    """Take a withdrawal back, and say what is no longer closed by it.

    One of a model, a stage or an agreement needs signatures, if the server has signers. Each of them runs

    sluicegate policy sign-lifting ID --signer release-lead --key release-lead.key --deployment example

    and sends you the line that it prints:

    sluicegate withdraw lift ID --justification "False alarm." --signature release-lead=... --signature safety-lead=...
    """
    asyncio.run(_lift(connection, withdrawal, justification, _signatures(signature or ()), dry_run=dry_run))


async def _listed(connection: Connection) -> tuple[Withdrawal, ...]:
    async with connection.client() as client:
        return await client.list_withdrawals()


async def _lift(
    connection: Connection, id_: str, justification: str, signatures: dict[str, str], *, dry_run: bool
) -> None:
    async with connection.client() as client:
        listed = await client.list_withdrawals()
        found = next((each for each in listed if each.id == id_), None)
        if found is not None:
            note(
                safe(f"asking to lift {id_}: {described(found.target)}, closed {_since(found)}: {found.justification}")
            )
        await client.lift_withdrawal(id_, justification, signatures=signatures, validate_only=dry_run)
    what = described(found.target) if found is not None else f"what {id_} closed"
    write(f"{'would no longer be' if dry_run else 'no longer'} closed by it: {what}\n")
    others = [each.id for each in listed if found is not None and each.target == found.target and each is not found]
    if others:
        write(f"still closed by: {', '.join(others)}\n")


def _signatures(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in given:
        signer, _, value = entry.partition("=")
        if not signer or not value:
            raise ConfigurationError("--signature takes SIGNER=VALUE, as `sluicegate policy sign-lifting` prints it")
        if signer in found:
            raise ConfigurationError(f"--signature names {signer} twice; each signer counts once")
        found[signer] = value
    return found


def described(target: WithdrawalTarget | None) -> str:  # noqa: PLR0911  (one a kind)
    """What is closed, in words."""
    match target:
        case TokenTarget():
            return f"token {target.token_id} of {target.issuer}"
        case IssuedBeforeTarget():
            parts = {"client": target.client_id, "subject": target.subject}
            of = "".join(f", {part} {name}" for part, name in parts.items() if name is not None)
            return f"tokens of {target.issuer}{of}, issued before {shown_time(target.time) or 'now'}"
        case ClientTarget():
            return f"client {target.client_id} of {target.issuer}"
        case SubjectTarget():
            return f"subject {target.subject} of {target.issuer}"
        case KeyTarget():
            return f"key {target.key_id} of {target.issuer}"
        case AgreementTarget():
            return f"agreement {target.agreement}"
        case ModelTarget():
            return f"model {target.model}"
        case StageTarget():
            return f"what stage {target.stage} does not open"
        case None:
            return "something that only newer clients know"
        case _:
            assert_never(target)


def plain(withdrawal: Withdrawal) -> dict[str, object]:
    """The withdrawal for JSON, with the kind of its target."""
    target = withdrawal.target
    return {**members(withdrawal), "target": None if target is None else {"kind": target.kind, **members(target)}}


def shown_time(when: datetime | None) -> str:
    """The time for people; empty for none."""
    return "" if when is None else f"{when:%Y-%m-%d %H:%M:%S} UTC"


def _since(withdrawal: Withdrawal) -> str:
    return f"since {shown_time(withdrawal.created)}, by {withdrawal.operator}"


def _row(withdrawal: Withdrawal) -> list[str]:
    return [
        withdrawal.id,
        described(withdrawal.target),
        shown_time(withdrawal.created),
        shown_time(withdrawal.expires),
        withdrawal.operator,
        withdrawal.justification,
    ]
