"""`sluicegate detect`: whether a text carries the watermark of one of the server's models."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import MAX_PROMPT_BYTES, given_text, write, write_json, write_table
from sluicegate.client.errors import ConfigurationError
from sluicegate.client.provenance import Detection, Verdict, WatermarkCheck

SAID = {
    Verdict.WATERMARKED: "The text carries a watermark of this server's.",
    Verdict.NOT_FOUND: "No watermark was found. It does not follow who or what wrote the text.",
    Verdict.INSUFFICIENT_TEXT: "There is too little text to judge: it takes 50 tokens that do not repeat each other.",
    Verdict.UNSUPPORTED: "The server has no watermark key to look for.",
    Verdict.UNSPECIFIED: "The server's answer is of a newer version than this client.",
}


@with_option_groups
@reported()
def detect(
    file: Annotated[
        Path | None, typer.Argument(help="File with the text, UTF-8; - or nothing reads standard input.")
    ] = None,
    *,
    model: Annotated[str, typer.Option(help="Look for this model's watermarks only; all models' if left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    connection: Connection,
) -> None:
    """Look for watermarks in a text. Needs the scope `detect:watermark`; the text is sent to the server."""
    found = asyncio.run(_detect(connection, _text(file), model))
    if as_json:
        write_json(found)
        return
    write_table(
        ["model", "epoch", "verdict", "p-value", "tokens that count", "key"],
        [_row(check) for check in found.checks],
    )
    write(f"\n{SAID[found.verdict]}\n")


async def _detect(connection: Connection, text: str, model: str) -> Detection:
    async with connection.client() as client:
        return await client.detect_text(text, model)


def _text(file: Path | None) -> str:
    """The file's text, else that of standard input. Raises ConfigurationError."""
    if file is None or str(file) == "-":
        return given_text(None)
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_PROMPT_BYTES + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8, or too long") from None
    if not text or len(raw) > MAX_PROMPT_BYTES:
        raise ConfigurationError(f"{file} must hold 1 to {MAX_PROMPT_BYTES} bytes of text")
    return text


def _row(check: WatermarkCheck) -> list[str]:
    if check.p_value is None:
        return [check.model, "", check.verdict, "", "", ""]
    return [
        check.model,
        str(check.epoch),
        check.verdict,
        f"{check.p_value:.3g}",
        str(check.scored_tokens),
        check.watermark_id or "",
    ]
