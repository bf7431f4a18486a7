"""`sluicegate generate`: text on the terminal as it comes."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.sampling import Sampling
from sluicegate.client.commands.terminal import given_text, members, note, write, write_json
from sluicegate.client.errors import CallError, ConfigurationError
from sluicegate.client.requests import StreamOptions
from sluicegate.client.results import Delta, Event, Finished, FinishReason, PersonalDataType, Started, Usage

if TYPE_CHECKING:
    from sluicegate.client.client import Client
    from sluicegate.client.streams import GenerationStream

_WORTH_SAYING = frozenset({FinishReason.QUOTA, FinishReason.FLAGGED, FinishReason.UNSPECIFIED})
"""Ends that the caller did not set: they are told even where nobody watches."""


class Output(Protocol):
    """Shows a stream."""

    def show(self, event: Event) -> None: ...

    def end(self, usage: Usage, error: CallError | None) -> None:
        """The stream is over: with status OK, or with this error."""
        ...


@with_option_groups
@reported()
def generate(
    model: Annotated[str, typer.Argument(help="As `sluicegate models` shows it.")],
    prompt: Annotated[str | None, typer.Argument(help="What to continue; - or nothing reads standard input.")] = None,
    *,
    sampling: Sampling,
    purpose: Annotated[str, typer.Option(help="The purpose, where an agreement lists some.")] = "",
    client_request_id: Annotated[str, typer.Option(help="An id of your own; the server echoes it.")] = "",
    priority: Annotated[int, typer.Option(help="Which of your own waiting calls goes first, -10 to 10.")] = 0,
    include_tokens: Annotated[bool, typer.Option("--include-tokens", help="Also token ids (with --json).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each event.")] = False,
    connection: Connection,
) -> None:
    """Continue a prompt; the text is written as it comes.

    One newline at the end of standard input is dropped. On a terminal, control characters are left out.
    """
    config = sampling.config()
    if not as_json and (include_tokens or config.response_logprobs):
        raise ConfigurationError("tokens and log-probabilities are shown with --json only")
    output: Output = JsonOutput() if as_json else TextOutput(config.candidate_count or 1)
    options = StreamOptions(include_tokens=True) if include_tokens else None
    text = given_text(prompt)

    def opened(client: Client) -> GenerationStream:
        return client.stream(
            model,
            text,
            config,
            options=options,
            purpose=purpose,
            client_request_id=client_request_id,
            priority=priority,
        )

    asyncio.run(_show(connection, opened, output))


async def _show(connection: Connection, opened: Callable[[Client], GenerationStream], output: Output) -> None:
    from sluicegate.client.calls import cancelled

    async with connection.client() as client, opened(client) as stream:
        try:
            async for event in stream:
                output.show(event)
        except CallError as error:
            output.end(stream.usage, error)
            raise
        except asyncio.CancelledError:
            output.end(stream.usage, cancelled())
            raise
        output.end(stream.usage, None)


class JsonOutput:
    """One line for each event, and a last one with `end` or `error`."""

    def show(self, event: Event) -> None:
        write_json({"event": type(event).__name__.lower(), **members(event)})

    def end(self, usage: Usage, error: CallError | None) -> None:
        if error is None:
            write_json({"event": "end", "usage": usage})
        else:
            write_json({"event": "error", **error_members(error), "usage": usage})


class TextOutput:
    """The candidates' text one after the other, however their events are mixed.

    The candidate whose turn it is streams; the others wait in memory.
    """

    def __init__(self, candidates: int) -> None:
        self._candidates = candidates
        self._waiting: defaultdict[int, str] = defaultdict(str)
        self._finished: set[int] = set()
        self._turn = 0
        self._is_headed = False
        self._is_line_open = False
        self._started: Started | None = None
        self._ends: list[str] = []

    def show(self, event: Event) -> None:
        match event:
            case Started():
                self._started = event
            case Delta():
                self._waiting[event.candidate] += event.text
            case Finished():
                self._finished.add(event.candidate)
                self._ends.append(event.finish_reason.value)
                if event.finish_reason in _WORTH_SAYING:
                    note(f"candidate {event.candidate + 1} ended early: {event.finish_reason.value}")
                if event.redactions:
                    note(f"candidate {event.candidate + 1} had personal data taken out: {_counted(event.redactions)}")
        self._write_turn()
        while self._turn in self._finished:
            self._close()
            self._write_turn()

    def end(self, usage: Usage, error: CallError | None) -> None:
        for candidate in sorted(self._waiting):
            if candidate != self._turn:
                self._close()
                self._turn = candidate
            self._write_turn()
        self._close_line()
        if error is None and self._started is not None and sys.stderr.isatty():
            counted = f"{usage.prompt_tokens} + {usage.output_tokens} tokens"
            note(f"[{', '.join(self._ends) or 'cut off'}; {counted}; seed {self._started.seed}]")

    def _write_turn(self) -> None:
        text = self._waiting.pop(self._turn, "")
        if not text and self._turn not in self._finished:
            return
        if self._candidates > 1 and not self._is_headed:
            write(f"--- candidate {self._turn + 1} of {self._candidates} ---\n")
            self._is_headed = True
        if text:
            write(text)
            self._is_line_open = not text.endswith("\n")

    def _close(self) -> None:
        self._close_line()
        self._turn += 1
        self._is_headed = False

    def _close_line(self) -> None:
        if self._is_line_open:
            write("\n")
            self._is_line_open = False


def _counted(redactions: Mapping[PersonalDataType, int]) -> str:
    return ", ".join(f"{count} {kind.value}" for kind, count in redactions.items())


def error_members(error: CallError) -> dict[str, object]:
    """An error as JSON shows it."""
    return {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "remedy": error.remedy,
        "metadata": error.metadata,
        "field_violations": error.field_violations,
        "retry_after_seconds": error.retry_after,
        "request_id": error.request_id,
    }
