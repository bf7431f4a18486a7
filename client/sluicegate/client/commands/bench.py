"""`sluicegate bench`: a load on a server, and how it was answered."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate.client.commands.bench_page import show
from sluicegate.client.commands.connection import (
    TOKEN_VARIABLE,
    Server,
    token_of_the_environment,
    token_option,
)
from sluicegate.client.commands.evaluation import tool
from sluicegate.client.commands.exits import Exit, reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.load_options import Load
from sluicegate.client.commands.terminal import note, progress, write_json
from sluicegate.client.errors import ConfigurationError, MeasurementRefused
from sluicegate.client.tokens import FileToken

if TYPE_CHECKING:
    from sluicegate.client.client import Client
    from sluicegate.client.load.driver import Driver
    from sluicegate.client.results import Model


@with_option_groups
@reported()
def bench(
    *,
    load: Load,
    token_file: Annotated[
        list[Path] | None,
        token_option(
            "--token-file",
            f"File with a caller's token; repeatable, requests go round at random. Without one, ${TOKEN_VARIABLE}",
            metavar="FILE",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw the percentiles, as SVG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line.")] = False,
    server: Server,
) -> None:
    """Put a load on a server: time to the first token, between tokens, and throughput, by model and caller.

    Prompts are random tokens. Refusals are counted by reason, and do not end the run. Ctrl-C ends it with what was
    measured so far. An open loop's times count from when a request was due. Calls cost quotas as any do. Exits with 1
    if none was answered.
    """
    run = Run(load, server, token_file or [])
    if plot is not None:
        _require_writable(plot)
    is_interrupted = False
    try:
        asyncio.run(run.measure())
    except KeyboardInterrupt:
        if run.driver is None:
            raise
        is_interrupted = True
    assert run.driver is not None
    run.report(run.driver, plot=plot, as_json=as_json, is_interrupted=is_interrupted)
    if is_interrupted:
        raise typer.Exit(Exit.INTERRUPTED)
    if not any(tally.answered + tally.cancelled for tally in run.driver.tallies.values()):
        note("sluicegate: no request was answered")
        raise typer.Exit(Exit.REFUSED)


class Run:
    """One run. What was measured is in `driver` however it ends; None: it has not begun. Raises ConfigurationError."""

    def __init__(self, load: Load, server: Server, token_files: Sequence[Path]) -> None:
        self._load = load
        self._server = server
        self._shares = load.shares
        self._plan = load.plan()
        self._prompt = load.prompt
        self._output = load.output
        if len(set(token_files)) < len(token_files):
            raise ConfigurationError("a --token-file is there twice")
        self._tokens: dict[str, FileToken | str | None] = {str(path): FileToken(path) for path in token_files}
        if not self._tokens:
            token = token_of_the_environment()
            self._tokens = {"anonymous" if token is None else f"${TOKEN_VARIABLE}": token}
        self._models: Sequence[Model] = ()
        self._began = datetime.now(UTC)
        self.driver: Driver | None = None

    async def measure(self) -> None:
        """Look the models up, and put the load on. Raises CallError and TokenUnavailable of the former alone."""
        from sluicegate.client.load.driver import Driver
        from sluicegate.client.load.mix import Mix

        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(self._server.client(token, retry=False))
                for token in self._tokens.values()
            ]
            self._models = await self._look_up(clients)
            mix = Mix(
                shares=self._shares,
                vocabularies={model.id: model.vocabulary_size or 0 for model in self._models},
                callers=len(clients),
                prompt=self._prompt,
                output=self._output,
                cancel_share=self._load.cancel_share,
            )
            with self._progress() as on_end:
                self._began = datetime.now(UTC)
                self.driver = Driver(
                    self._plan,
                    mix,
                    lambda request: self._load.open(clients[request.caller], request),
                    on_end=on_end,
                )
                await self.driver.run()

    async def _look_up(self, clients: Sequence[Client]) -> list[Model]:
        """The models, as any of the callers may know of them. Every caller's token is tried. Raises CallError,
        TokenUnavailable, ConfigurationError and MeasurementRefused."""
        known = {model.id: model for client in clients for model in await client.models()}
        for name in self._shares:
            if name not in known:
                raise ConfigurationError(
                    f"no caller may know of a model {name!r}: `sluicegate models` shows those there are"
                )
            model = known[name]
            if not model.vocabulary_size or not model.context_length:
                raise MeasurementRefused(f"{name} is not loaded now; try again when `sluicegate models` says ready")
            if self._prompt.most + self._output.most > model.context_length:
                raise ConfigurationError(
                    f"the longest prompt and output have {self._prompt.most + self._output.most} tokens; "
                    f"{name} has room for {model.context_length}"
                )
        return [known[name] for name in self._shares]

    @contextmanager
    def _progress(self) -> Iterator[Callable[[], None]]:
        """A bar that counts requests where their number is known, else seconds; gives what a request's end calls."""
        if math.isfinite(self._plan.requests):
            with progress(int(self._plan.requests), 0) as advance:
                yield lambda: advance(1)
            return
        with progress(math.ceil(self._plan.warm_up_seconds + self._plan.seconds), 0) as advance:
            ticks = asyncio.ensure_future(_each_second(advance))
            try:
                yield lambda: None
            finally:
                ticks.cancel()

    def report(self, driver: Driver, *, plot: Path | None, as_json: bool, is_interrupted: bool) -> None:
        """Show what was measured. Raises ConfigurationError if the plot cannot be written."""
        from sluicegate.client.load import report

        results = report.results(driver, list(self._tokens))
        if as_json:
            write_json(
                {
                    "tool": tool(),
                    "began": self._began,
                    "ended": datetime.now(UTC),
                    "interrupted": is_interrupted,
                    "target": self._server.target,
                    "models": [
                        {"id": model.id, "share": self._shares[model.id], "weights_sha256": model.weights_sha256}
                        | {"dtype": model.dtype}
                        for model in self._models
                    ],
                    "callers": list(self._tokens),
                    "load": self._load,
                    "results": results,
                }
            )
        else:
            show(results, self._models, is_open_loop=self._plan.rate is not None)
        total = report.total(driver)
        if plot is None:
            return
        if not total.first_token.count:
            note("no token came: there is nothing to draw")
            return
        title = f"{', '.join(self._shares)}: {total.begun} requests, {self._load.mode.value} loop"
        try:
            plot.write_text(report.plot(title, total), encoding="utf-8")
        except OSError as fault:
            raise ConfigurationError(f"{plot} cannot be written: {fault.strerror}") from fault


def _require_writable(path: Path) -> None:
    """Before the run rather than after it. Raises ConfigurationError."""
    try:
        path.open("ab").close()
    except OSError as fault:
        raise ConfigurationError(f"{path} cannot be written: {fault.strerror}") from fault


async def _each_second(advance: Callable[[int], None]) -> None:
    while True:
        await asyncio.sleep(1)
        advance(1)
