"""`sluicegate watch`: the operator's view of one or several servers.

Exit codes: 0 ended with q or --once was complete, 1 a server's page is of no use, or --once got none from a server,
2 wrong usage, 130 ended with Ctrl-C.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.live import Live

from sluicegate.auth.terminal import JsonFlag, out, stop
from sluicegate.server.errors import PageUnusable
from sluicegate.server.fetching import Access, open_client
from sluicegate.server.page_options import Ca, PasswordFile, User, access_of, page_url
from sluicegate.server.watch.figures import View
from sluicegate.server.watch.screen import render
from sluicegate.server.watch.terminal import Ending, keys, listening
from sluicegate.server.watch.texts import members
from sluicegate.server.watch.watching import Watch

INTERRUPTED = 130
PATIENCE_SECONDS = 5.0
"""For one page; less where the interval is shorter, so that one server that hangs does not hold up the others."""
PIPE_COLUMNS = 120
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s|m)?", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0}

Show = Callable[[View], None]


def _interval(text: str) -> float:
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0.2 <= seconds <= 3_600:
        raise typer.BadParameter("write 200ms to 60m, as 2s")
    return seconds


def _metrics_url(text: str) -> httpx.URL:
    url = page_url(text)
    return url if url.path not in ("", "/") else url.copy_with(path="/metrics")


def watch(
    urls: Annotated[
        list[httpx.URL],
        typer.Argument(metavar="URL...", parser=_metrics_url, help="As http://127.0.0.1:9464/metrics, one a server."),
    ],
    *,
    interval: Annotated[
        float, typer.Option(metavar="TIME", parser=_interval, help="Between two looks, as 2s or 500ms.")
    ] = "2s",  # type: ignore[assignment]  # typer parses the default too
    once: Annotated[bool, typer.Option("--once", help="Look twice, an interval apart, show that and end.")] = False,
    user: User = None,
    password_file: PasswordFile = None,
    ca: Ca = None,
    as_json: JsonFlag = False,
) -> None:
    """Watch servers by their metrics: partners, models, signs of misuse, and whether control is in order.

    q ends it. Into a pipe it writes a block of text for each look, with --json a line.
    """
    access = access_of(urls, user, password_file, ca)
    console = _console()
    try:
        if once:
            problem = asyncio.run(_once(access, urls, interval, lambda view: _print(console, view, as_json=as_json)))
            raise typer.Exit(1 if problem else 0)
        is_screen = console.is_terminal and not console.is_dumb_terminal and not as_json
        ended_by = asyncio.run(_watch(access, urls, interval, console, is_screen=is_screen, as_json=as_json))
    except PageUnusable as error:
        stop(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if ended_by is None else 128 + ended_by)


def _console() -> Console:
    """Standard output. What is no terminal gets no escape codes, whatever the environment says of colours."""
    is_terminal = sys.stdout.isatty()
    width = None if is_terminal else int(found) if (found := os.environ.get("COLUMNS", "")).isdigit() else PIPE_COLUMNS
    return Console(
        file=sys.stdout,
        force_terminal=is_terminal,
        color_system="auto" if is_terminal else None,
        width=None if width is None else min(max(width, 40), 1000),
        highlight=False,
        markup=False,
        emoji=False,
    )


async def _once(access: Access, urls: list[httpx.URL], interval: float, show: Show) -> bool:
    """Show one view with rates; gives whether a server did not answer."""
    async with open_client(access) as client:
        watched = _watched(client, urls, interval)
        await watched.scrape()
        await asyncio.sleep(interval)
        await watched.scrape()
    view = watched.view()
    show(view)
    return view.answering < len(view.servers)


async def _watch(
    access: Access, urls: list[httpx.URL], interval: float, console: Console, *, is_screen: bool, as_json: bool
) -> int | None:
    """Show views until somebody ends it; gives the signal that did, or None."""
    with listening() as ending:
        async with open_client(access) as client:
            watched = _watched(client, urls, interval)
            if await ending.unless(watched.scrape()):
                return ending.by_signal
            if not is_screen:
                await _show_until(ending, watched, interval, lambda view: _print(console, view, as_json=as_json))
                return ending.by_signal
            with keys(ending), Live(console=console, screen=True, auto_refresh=False) as live:

                def show(view: View) -> None:
                    width, height = console.size
                    hint = f"every {interval:g} s, q ends"
                    live.update(render(view, width=width, height=height, hint=hint), refresh=True)

                await _show_until(ending, watched, interval, show)
    return ending.by_signal


def _watched(client: httpx.AsyncClient, urls: list[httpx.URL], interval: float) -> Watch:
    return Watch(client, urls, limit_seconds=min(PATIENCE_SECONDS, max(1.0, interval)))


async def _show_until(ending: Ending, watched: Watch, interval: float, show: Show) -> None:
    next_at = time.monotonic()
    while True:
        show(watched.view())
        next_at = max(next_at + interval, time.monotonic())
        if await ending.within(next_at - time.monotonic()):
            return
        if await ending.unless(watched.scrape()):
            return


def _print(console: Console, view: View, *, as_json: bool) -> None:
    if as_json:
        out(json.dumps(members(view)))
    else:
        console.print(render(view, width=console.width, height=None))
    sys.stdout.flush()
