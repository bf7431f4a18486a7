"""The options that say what a load asks, and when."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate.client.errors import ConfigurationError
from sluicegate.client.requests import GenerationConfig

if TYPE_CHECKING:
    from sluicegate.client.client import Client
    from sluicegate.client.load.driver import Plan
    from sluicegate.client.load.mix import Request, Span
    from sluicegate.client.streams import GenerationStream

DEFAULT_SECONDS = 30.0
DEFAULT_STREAMS = 8
DEFAULT_MOST_AT_A_TIME = 1_000
MAX_TOKENS = 4_096
"""Of a prompt and of an output: the API's bounds (generation.proto)."""


class Mode(StrEnum):
    """When requests are sent."""

    CLOSED = "closed"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked, and when."""

    model: Annotated[
        list[str], typer.Option("--model", metavar="ID[=SHARE]", help="A model and its share of requests; repeatable.")
    ]
    mode: Annotated[
        Mode,
        typer.Option(help="closed: so many streams, each asks again when it is answered; open: arrivals at random."),
    ] = Mode.CLOSED
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help=f"Streams of a closed loop ({DEFAULT_STREAMS}); of an open one the most at a time "
            f"({DEFAULT_MOST_AT_A_TIME}).",
        ),
    ] = None
    rate: Annotated[float | None, typer.Option(help="Requests per second of an open loop.")] = None
    duration: Annotated[
        float | None, typer.Option(help=f"Seconds, without the warm-up ({DEFAULT_SECONDS:g}, or all --requests).")
    ] = None
    requests: Annotated[int | None, typer.Option(min=1, help="End after so many, without the warm-up.")] = None
    warm_up: Annotated[float, typer.Option("--warm-up", min=0, help="Seconds in which nothing is counted.")] = 0.0
    prompt_tokens: Annotated[str, typer.Option(metavar="N|N-M", help="Tokens of each prompt.")] = "128"
    output_tokens: Annotated[str, typer.Option(metavar="N|N-M", help="Tokens of each output.")] = "128"
    cancel_share: Annotated[float, typer.Option(min=0, max=1, help="Share that is cancelled on the way.")] = 0.0
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.")] = 1.0
    max_wait: Annotated[
        float | None, typer.Option(min=0, help="Wait, up to so many seconds, where a quota asks for it. Else: refused.")
    ] = None
    purpose: Annotated[str, typer.Option(help="The purpose, where an agreement lists some.")] = ""
    priority: Annotated[int, typer.Option(help="Below 0: behind the callers' other calls.")] = 0
    seed: Annotated[int, typer.Option(help="Of all that is drawn at random.")] = 1

    @property
    def shares(self) -> Mapping[str, float]:
        """Of each model. Raises ConfigurationError."""
        shares: dict[str, float] = {}
        for text in self.model:
            name, given, share = text.partition("=")
            try:
                value = float(share) if given else 1.0
            except ValueError:
                value = math.nan
            if not name or name in shares or not 0 < value < math.inf:
                raise ConfigurationError(
                    f"--model {text!r} is not ID or ID=SHARE with a share above 0, or is there twice"
                )
            shares[name] = value
        return shares

    def plan(self) -> Plan:
        """When requests are sent. Raises ConfigurationError."""
        from sluicegate.client.load.driver import Plan

        if (self.mode is Mode.OPEN) != (self.rate is not None):
            raise ConfigurationError("--rate and --mode open belong together")
        for flag, value in (("--rate", self.rate), ("--duration", self.duration)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigurationError(f"{flag} is {value:g}: it must be above 0")
        if not self.warm_up < math.inf:
            raise ConfigurationError("--warm-up has no end")
        default = DEFAULT_STREAMS if self.mode is Mode.CLOSED else DEFAULT_MOST_AT_A_TIME
        unlimited = math.inf if self.requests is not None else DEFAULT_SECONDS
        return Plan(
            concurrency=default if self.concurrency is None else self.concurrency,
            rate=self.rate,
            warm_up_seconds=self.warm_up,
            seconds=unlimited if self.duration is None else self.duration,
            requests=math.inf if self.requests is None else self.requests,
            max_wait_seconds=self.max_wait,
            seed=self.seed,
        )

    @property
    def prompt(self) -> Span:
        """Tokens of each prompt. Raises ConfigurationError."""
        return _span("--prompt-tokens", self.prompt_tokens)

    @property
    def output(self) -> Span:
        """Tokens of each output. Raises ConfigurationError."""
        return _span("--output-tokens", self.output_tokens)

    def open(self, client: Client, request: Request) -> GenerationStream:
        """The request's stream; end-of-text does not end it, so that outputs are as long as they were to be."""
        config = GenerationConfig(
            max_output_tokens=request.output_tokens, temperature=self.temperature, ignore_eos=True
        )
        return client.stream(request.model, request.prompt, config, purpose=self.purpose, priority=self.priority)


def _span(flag: str, text: str) -> Span:
    """Raises ConfigurationError for what is neither a number nor a range."""
    from sluicegate.client.load.mix import Span

    if found := re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text):
        least, most = int(found[1]), int(found[2] or found[1])
        if 1 <= least <= most <= MAX_TOKENS:
            return Span(least, most)
    raise ConfigurationError(f"{flag} {text!r} is neither a number nor a range as 16-512, of 1 to {MAX_TOKENS}")
