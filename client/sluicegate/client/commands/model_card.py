"""`sluicegate models show`: a model's card."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import typer

from sluicegate.client.cards import (
    BiasEvaluation,
    ConfidenceInterval,
    MemorisationEvaluation,
    ModelCard,
    OpeningChange,
    WatermarkEvaluation,
)
from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import write, write_json, write_table
from sluicegate.client.commands.withdrawals import shown_time
from sluicegate.client.results import Audience, CallerAccess, Model

_BIAS = ("suite", "prefers stereotype", "interval", "mean distance", "pairs", "measured", "evidence")
_POWER = ("kind", "temperature", "tokens", "texts", "found")
_MEMORISATION = ("corpus", "prompts", "tokens", "temperature", "samples", "recited", "interval", "measured", "evidence")
_OPENINGS = ("at", "step", "open to", "evidence")


@with_option_groups
@reported()
def show(
    model: Annotated[str, typer.Argument(help="As `sluicegate models` shows it.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    connection: Connection,
) -> None:
    """Show one model's card: what it is, what was measured on the weights that are served, how it came to be open."""
    card = asyncio.run(_card(connection, model))
    if as_json:
        write_json(card)
    else:
        _show(card)


async def _card(connection: Connection, model: str) -> ModelCard:
    async with connection.client() as client:
        return await client.model_card(model)


def access_text(access: CallerAccess) -> str:
    """Whether the caller may generate with a model, under which agreement, or why not."""
    if not access.allowed:
        return access.reason or "refused"
    return f"allowed ({access.agreement})" if access.agreement else "allowed"


def _show(card: ModelCard) -> None:
    write_table(("", ""), _facts(card.model))
    if not card.model.weights_sha256:
        write("\nIt is not loaded, so its weights are not known, nor what was measured on them.\n")
    else:
        _section("Bias", _BIAS, map(_bias, card.bias))
        _section(_watermark_title(card.watermark), _POWER, _power(card.watermark))
        _section("Memorisation", _MEMORISATION, map(_memorisation, card.memorisation))
    _section("Release", _OPENINGS, map(_opening, card.openings), none="as from the first stage on")


def _section(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], none: str = "not measured on these weights"
) -> None:
    rows = tuple(rows)
    write(f"\n{title}{'' if rows else f': {none}'}\n")
    if rows:
        write_table(columns, rows)


def _facts(model: Model) -> Iterator[tuple[str, str]]:
    yield "model", model.id
    if model.description:
        yield "description", model.description
    if model.parameters and model.context_length and model.vocabulary_size:
        yield "size", f"{model.parameters:,} parameters, {model.dtype}"
        yield "context", f"{model.context_length:,} tokens of a vocabulary of {model.vocabulary_size:,}"
    yield "weights", model.weights_sha256 or "not loaded"
    yield "license", model.license
    if model.source:
        yield "source", model.source
    yield "intended use", model.intended_use or "not stated"
    yield "unacceptable use", model.unacceptable_use or "not stated"
    yield "state", model.state.value.lower()
    yield "stage", f"{model.stage}, open to {_audience(model.open_to)}"
    yield "you", access_text(model.caller_access)


def _bias(found: BiasEvaluation) -> Sequence[str]:
    return (
        found.suite,
        "all are ties" if found.share is None else _percentage(found.share),
        "" if found.interval is None else _interval(found.interval),
        f"{found.mean_absolute_delta:.2f} nats",
        f"{found.pairs:,}",
        shown_time(found.time),
        found.evidence_sha256[:16],
    )


def _watermark_title(found: WatermarkEvaluation | None) -> str:
    if found is None:
        return "Watermark"
    return (
        f"Watermark {found.watermark_id}, at a false-positive rate of {_percentage(found.false_positive_rate)}"
        f" (measured {shown_time(found.time)}, evidence {found.evidence_sha256[:16]})"
    )


def _power(found: WatermarkEvaluation | None) -> Iterator[Sequence[str]]:
    if found is None:
        return
    for each in found.power:
        yield "marked", f"{each.temperature:g}", f"{each.tokens:,}", f"{each.texts:,}", _percentage(each.rate)
    yield "prose", "", "", f"{found.prose_texts:,}", _percentage(found.prose_rate)


def _memorisation(found: MemorisationEvaluation) -> Sequence[str]:
    return (
        found.corpus_sha256[:16],
        f"{found.prompt_tokens} tokens of it" if found.prompt_tokens else "none",
        str(found.max_output_tokens),
        f"{found.temperature:g}",
        f"{found.samples:,}",
        _percentage(found.rate),
        _interval(found.interval),
        shown_time(found.time),
        found.evidence_sha256[:16],
    )


def _opening(change: OpeningChange) -> Sequence[str]:
    return (
        shown_time(change.time),
        f"{change.from_stage} -> {change.to_stage}",
        f"{_audience(change.before)} -> {_audience(change.after)}",
        " ".join(digest[:16] for digest in change.evidence_sha256),
    )


def _audience(audience: Audience) -> str:
    return "nobody" if audience is Audience.UNSPECIFIED else audience.value.lower()


def _percentage(rate: float) -> str:
    return f"{100 * rate:.4g} %"


def _interval(found: ConfidenceInterval) -> str:
    return f"{100 * found.low:.4g} to {_percentage(found.high)} ({_percentage(found.confidence)})"
