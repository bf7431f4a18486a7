"""`sluicegate score`: how likely a model takes a text to be."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import given_text, write, write_json, write_table
from sluicegate.client.results import Score, Token


@with_option_groups
@reported()
def score(
    model: Annotated[str, typer.Argument(help="As `sluicegate models` shows it.")],
    text: Annotated[str | None, typer.Argument(help="What to score; - or nothing reads standard input.")] = None,
    *,
    logprobs: Annotated[int | None, typer.Option(help="Also this many of the likeliest tokens in each place.")] = None,
    purpose: Annotated[str, typer.Option(help="The purpose, where an agreement lists some.")] = "",
    priority: Annotated[int, typer.Option(help="Which of your own waiting calls goes first, -10 to 10.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    connection: Connection,
) -> None:
    """Show each token's log-probability (natural logarithm), their sum, and the perplexity."""
    found = asyncio.run(
        _score(connection, model, given_text(text), logprobs=logprobs, purpose=purpose, priority=priority)
    )
    perplexity = perplexity_of(found)
    if as_json:
        write_json(
            {
                "tokens": found.tokens,
                "total_log_probability": found.total_log_probability,
                "perplexity": perplexity if math.isfinite(perplexity) else None,
                "started": found.started,
                "usage": found.usage,
            }
        )
        return
    write_table(
        ["token", "id", "log-probability", *(["likeliest"] if logprobs else [])],
        ([_shown(each.bytes), str(each.id), _number(each.log_probability), _top(each)] for each in found.tokens)
        if logprobs
        else ([_shown(each.bytes), str(each.id), _number(each.log_probability)] for each in found.tokens),
    )
    write(f"\ntotal log-probability {found.total_log_probability:.4f}, perplexity {perplexity:.4g}\n")


def perplexity_of(score: Score) -> float:
    """exp of the mean negative log-probability of a token; infinite where a float cannot hold it, NaN for no tokens."""
    if not score.tokens:
        return math.nan
    try:
        return math.exp(-score.total_log_probability / len(score.tokens))
    except OverflowError:
        return math.inf


async def _score(
    connection: Connection, model: str, text: str, *, logprobs: int | None, purpose: str, priority: int
) -> Score:
    async with connection.client() as client:
        return await client.score(model, text, logprobs=logprobs, purpose=purpose, priority=priority)


def _shown(raw: bytes) -> str:
    """Bytes in quotes, so that spaces show; newlines and what is no UTF-8 as escapes."""
    return repr(raw.decode("utf-8", "backslashreplace"))


def _number(log_probability: float | None) -> str:
    return "" if log_probability is None else f"{log_probability:.4f}"


def _top(token: Token) -> str:
    return "  ".join(f"{_shown(each.bytes)} {each.log_probability:.2f}" for each in token.top)
