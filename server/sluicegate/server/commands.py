"""The command line of the server: `serve` runs it, `health` asks it, `init` writes a first set of files to run it with.

Exit codes: 0 ended as asked, 1 could not start or failed, bad settings included, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.auth import AuthError
from sluicegate.server import app
from sluicegate.server.config import Settings
from sluicegate.server.engine.errors import EngineError
from sluicegate.server.errors import ServerError, SettingsError
from sluicegate.server.file_checks import check_files
from sluicegate.server.observe.log import configure
from sluicegate.server.rpc.probing import probe
from sluicegate.server.scaffold import Scaffold, write_scaffold
from sluicegate.server.settings_file import SETTINGS_FILE_VARIABLE, load_settings
from sluicegate.server.state import StateError

LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 -- nothing is bound
"""Where a server that listens on all addresses is found on its own machine."""


def serve(
    *,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Settings file.", envvar=SETTINGS_FILE_VARIABLE, show_envvar=True),
    ] = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT or unix:/PATH instead of the file's `listen`.")] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(help="HOST:PORT instead of the file's `metrics.listen`.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="sqlite:///FILE or redis://HOST instead of the file's `state.url`.")
    ] = None,
    new_state: Annotated[
        bool,
        typer.Option(
            "--new-state",
            help="Start though the state store knows nothing of this audit log, or has forgotten withdrawals.",
        ),
    ] = False,
    replica: Annotated[str | None, typer.Option(help="Name instead of the file's `audit.replica`.")] = None,
    audit_directory: Annotated[
        str | None, typer.Option(metavar="DIR", help="Directory instead of the file's `audit.directory`.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="json or console instead of the file's.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Read settings and listeners' files, and stop.")] = False,
) -> None:
    """Serve models as the settings say, until SIGTERM or Ctrl-C; then drain. A second signal ends it at once."""
    flags = {
        "listen": listen,
        "metrics.listen": metrics_listen,
        "state.url": state,
        "state.is_new": new_state or None,
        "audit.replica": replica,
        "audit.directory": audit_directory and str(Path(audit_directory).absolute()),
        "log.format": log_format,
    }
    overrides: dict[str, object] = {name: value for name, value in flags.items() if value is not None}
    if state is not None:
        overrides["state.url_file"] = None  # the flag wins over either setting
    try:
        settings = load_settings(config, overrides)
        if check:
            check_files(settings)
            typer.echo(f"{config or SETTINGS_FILE_VARIABLE}: good")
            return
        configure(settings.log.level, settings.log.format)
        asyncio.run(_serve(settings))
    except (ServerError, AuthError, EngineError, StateError) as error:
        raise _failed(error) from None


def health(
    address: Annotated[
        str | None,
        typer.Argument(metavar="[HOST:PORT]", help="Its `health.listen`. By default, what the settings say."),
    ] = None,
    *,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Settings file.", envvar=SETTINGS_FILE_VARIABLE, show_envvar=True),
    ] = None,
    service: Annotated[str, typer.Option(help="`models`: whether each of its models answers, too.")] = "",
    wait: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long to wait for an answer.")] = 5,
) -> None:
    """Ask a server on its port for probes whether it serves: exit code 0 if it does, 1 if not."""
    try:
        asked = _health_address(config) if address is None else address
        is_serving = probe(asked, service, wait)
    except ServerError as error:
        raise _failed(error) from None
    typer.echo(f"{asked}: {'SERVING' if is_serving else 'NOT_SERVING'}")
    if not is_serving:
        raise typer.Exit(1)


def _health_address(config: Path | None) -> str:
    """Where a server with these settings is asked from the same machine. Raises SettingsError."""
    listen = load_settings(config).health.listen
    if listen is None:
        raise SettingsError(["health.listen: is not set, so no port answers probes; set it, or give HOST:PORT"])
    host, _, port = listen.rpartition(":")
    return f"{LOOPBACK.get(host, host)}:{port}"


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New directory.")],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=SOURCE", help="A model: a hub id or a directory. Repeatable, smallest first."),
    ] = None,
) -> None:
    """Write settings, a policy, a signing key and its JWKS, to begin with. The first model is public."""
    pairs = [each.partition("=") for each in model or ["gpt2-124m=openai-community/gpt2"]]
    if not all(name and source for name, _, source in pairs):
        raise typer.BadParameter("--model takes ID=SOURCE, as gpt2-124m=openai-community/gpt2")
    try:
        written = write_scaffold(directory, [(name, source) for name, _, source in pairs])
    except (ServerError, AuthError, EngineError) as error:
        raise _failed(error) from None
    typer.echo(_next_steps(written))


def _failed(error: Exception) -> typer.Exit:
    """Say why, a line for each problem; gives the end of the command."""
    for line in str(error).splitlines():
        sys.stderr.write(f"sluicegate: {line}\n")
    return typer.Exit(1)


def _next_steps(written: Scaffold) -> str:
    name = written.directory
    return f"""Wrote {name}/. It is for trying out: tokens come from a key of your own, policy signatures are off.

  sluicegate serve --config {name}/sluicegate.yaml
  sluicegate token issue --key {name}/issuer.jwk --issuer {written.issuer} --audience {written.audience} \\
      --client me --scope generate:{written.models[0]} --output {name}/token
  SLUICEGATE_TOKEN_FILE={name}/token sluicegate generate {written.models[0]} "It was a truth"
"""


async def _serve(settings: Settings) -> None:
    """Run until a signal, an operator's word, or the end of a part of the server that must not end."""
    started, stop, hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()
    work = asyncio.create_task(_run(settings, started, stop, hurry))

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()
        if not started.is_set():
            work.cancel()  # nobody is served yet: nothing to drain

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await work
    except asyncio.CancelledError:
        if not stop.is_set():
            raise


async def _run(settings: Settings, started: asyncio.Event, stop: asyncio.Event, hurry: asyncio.Event) -> None:
    async with app.running(settings) as server:
        started.set()
        # What a start makes, some 120,000 objects, is here to stay: the collector need not look at it while all streams
        # wait, for 60 ms.
        gc.collect()
        gc.freeze()
        waits = [asyncio.create_task(event.wait()) for event in (stop, server.failed, server.draining.asked)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await server.draining.drain(hurry)
        if server.failed.is_set():
            raise ServerError("a background task failed; the log has its cause")
