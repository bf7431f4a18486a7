"""`sluicegate whoami`, `sluicegate quotas` and `sluicegate check`: what callers can learn about themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import Exit, reported
from sluicegate.client.commands.finding import due_text
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import write, write_json, write_table
from sluicegate.client.remedies import remedy_for
from sluicegate.client.results import Access, Agreement, Identity, QuotaUsage

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class Action(StrEnum):
    """What a caller can ask about."""

    GENERATE = "generate"
    SCORE = "score"


@with_option_groups
@reported()
def whoami(*, as_json: JsonFlag = False, connection: Connection) -> None:
    """Show who the server takes the caller to be."""
    identity = asyncio.run(_identity(connection))
    if as_json:
        write_json(identity)
        return
    rows = [
        ("caller", identity.subject or "anonymous"),
        ("client", identity.client_id),
        ("issuer", identity.issuer),
        ("counts as", identity.audience.value.lower()),
        ("scopes", " ".join(identity.scopes)),
        ("token expires", _time(identity.token_expires)),
        ("stage", identity.stage),
        ("policy revision", identity.policy_revision),
        *(_agreement_rows(identity.agreement) if identity.agreement else ()),
    ]
    write_table(("", ""), [row for row in rows if row[1]])


@with_option_groups
@reported()
def quotas(
    model: Annotated[str, typer.Argument(help="As `sluicegate models` shows it.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    connection: Connection,
) -> None:
    """Show how much of its quotas the caller has used, for calls to a model, and when they are reset."""
    found = asyncio.run(_quotas(connection, model))
    if as_json:
        write_json(found)
    elif not found:
        write("nothing limits the caller\n")
    else:
        rows = [(each.quota, f"{each.used:,}", f"{each.limit:,}", _time(each.resets)) for each in found]
        write_table(("quota", "used", "limit", "resets"), rows)


@with_option_groups
@reported()
def check(
    model: Annotated[str, typer.Argument(help="The model that the call would name.")],
    *,
    action: Annotated[Action, typer.Option(help="What the call would do.")] = Action.GENERATE,
    purpose: Annotated[str, typer.Option(help="The purpose that it would state.")] = "",
    response_logprobs: Annotated[bool, typer.Option("--response-logprobs", help="With log-probabilities.")] = False,
    greedy: Annotated[bool, typer.Option("--greedy", help="With temperature 0 or top-k 1.")] = False,
    include_tokens: Annotated[bool, typer.Option("--include-tokens", help="With token ids and bytes.")] = False,
    as_json: JsonFlag = False,
    connection: Connection,
) -> None:
    """Say whether a call would be allowed, without making it. Quotas and load are not part of the answer."""
    access = asyncio.run(
        _check(
            connection,
            model,
            action=action.value,
            purpose=purpose,
            response_logprobs=response_logprobs,
            greedy=greedy,
            include_tokens=include_tokens,
        )
    )
    if as_json:
        write_json(access)
    else:
        write(_answer(access, action) + "\n")
    raise typer.Exit(Exit.OK if access.allowed else Exit.REFUSED)


async def _identity(connection: Connection) -> Identity:
    async with connection.client() as client:
        return await client.whoami()


async def _quotas(connection: Connection, model: str) -> tuple[QuotaUsage, ...]:
    async with connection.client() as client:
        return await client.quotas(model)


async def _check(
    connection: Connection,
    model: str,
    *,
    action: str,
    purpose: str,
    response_logprobs: bool,
    greedy: bool,
    include_tokens: bool,
) -> Access:
    async with connection.client() as client:
        return await client.check(
            model,
            action=action,
            purpose=purpose,
            response_logprobs=response_logprobs,
            greedy=greedy,
            include_tokens=include_tokens,
        )


def _answer(access: Access, action: Action) -> str:
    under = f" under {access.agreement}" if access.agreement else ""
    if access.allowed:
        is_limited = action is Action.GENERATE and access.max_output_tokens is not None
        limit = f", at most {access.max_output_tokens} output tokens" if is_limited else ""
        priority = f", priority up to {access.max_priority}" if access.max_priority else ""
        return f"allowed as {access.audience.value.lower()}{under}{limit}{priority}"
    facts = "".join(f", {name} {value}" for name, value in sorted(access.metadata.items()))
    remedy = access.remedy or remedy_for(access.reason, "PERMISSION_DENIED", access.metadata)
    return f"refused{under}: {access.reason}{facts}\n  {remedy}"


def _agreement_rows(agreement: Agreement) -> Sequence[tuple[str, str]]:
    return (
        ("agreement", f"{agreement.id} ({agreement.status}), {agreement.partner}"),
        ("models", " ".join(agreement.models)),
        ("actions", " ".join(agreement.actions)),
        ("purposes", " ".join(agreement.purposes)),
        ("valid from", _time(agreement.valid_from)),
        ("valid until", _time(agreement.valid_until)),
        ("finding due", due_text(agreement.finding_duty) if agreement.finding_duty else ""),
    )


def _time(when: datetime | None) -> str:
    return "" if when is None else f"{when:%Y-%m-%d %H:%M:%S} UTC"
