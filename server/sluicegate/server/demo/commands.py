"""`sluicegate demo`: builds the demo's world, starts its server, gives the tour, and takes everything down.

Exit codes: 0 all was as narrated, 1 something was not or could not start, 2 wrong usage, 130 ended with Ctrl-C before
the tour was over.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.auth import AuthError
from sluicegate.server.demo import tour
from sluicegate.server.demo.errors import DemoError
from sluicegate.server.demo.figures import read_figures
from sluicegate.server.demo.narrator import Narrator
from sluicegate.server.demo.server import Addresses, Server, started
from sluicegate.server.demo.shell import Shell, environment
from sluicegate.server.demo.steps import INTERRUPTED, Guide
from sluicegate.server.demo.world import (
    CALLERS,
    INSIDER,
    MODELS,
    PARTNER,
    VISITOR,
    World,
    claimed,
    write_world,
)


def demo(
    *,
    directory: Annotated[Path, typer.Option(help="For its files; an earlier demo's are replaced.")] = Path(".demo"),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port for calls; 0 takes a free one.")] = 0,
    metrics_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port for metrics; 0 takes a free one.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running until Ctrl-C.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Wait for Enter after each step.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="No colours.")] = False,
) -> None:
    """Start a server with four small models and walk through it. Needs no network; the server listens on loopback.

    Each command that it shows is one to type. The tour checks itself, and fails if anything is not as it says. The
    files stay in the directory afterwards.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Each takes everything down. SIGINT too: a shell's background jobs ignore it, and so would all commands here.
        signal.signal(number, signal.default_int_handler)
    narrator = Narrator(plain=plain, pauses=pause)
    try:
        with claimed(directory):
            world = write_world(directory, datetime.now(UTC), port=port, metrics_port=metrics_port)
            is_as_narrated = _show(world, narrator, keep=keep)
    except (DemoError, AuthError, OSError) as error:
        narrator.end_output()
        sys.stderr.write(f"sluicegate demo: {error}\n")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        narrator.end_output()
        narrator.say("Ended early; the server is stopped.")
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if is_as_narrated else 1)


def _show(world: World, narrator: Narrator, *, keep: bool) -> bool:
    """The server's whole life. Whether all was as narrated."""
    programs = Path(sys.argv[0]).absolute().parent
    variables = environment(programs, "", os.environ)
    with started(programs / "sluicegate", world.settings, world.log, variables) as server:
        _introduce(world, narrator)
        addresses = server.wait_until_serving(lambda model: narrator.aside(f"{model} is loaded"))
        narrator.say(f"It takes calls on {addresses.calls} and shows metrics on http://{addresses.metrics}/metrics.")
        narrator.end_step()
        shell = Shell(environment(programs, addresses.calls, os.environ))
        has_grpcurl = shutil.which("grpcurl", path=variables["PATH"]) is not None
        chapters = tour.chapters(world, addresses, has_grpcurl=has_grpcurl)
        problems = tour.run_tour(chapters, Guide(narrator, shell, lambda: read_figures(addresses.metrics)))
        if keep and not problems:
            _keep(world, addresses, programs, server, narrator)
        narrator.title("The end")
        narrator.say("The server drains and stops.")
        if code := server.stop():
            problems.append(f"the server ended with exit code {code}; {server.tail()}")
    if problems:
        narrator.bad("\n".join(["Not everything was as narrated:", *problems, f"The server's log is {world.log}."]))
    else:
        narrator.good("Everything was as narrated.")
    narrator.say(f"The files stay in {world.directory}/.")
    return not problems


def _introduce(world: World, narrator: Narrator) -> None:
    narrator.title("A gate, four models, three callers")
    narrator.say(
        "GPT-2 came out in stages: small models first, larger ones to partners, then to all. Sluicegate keeps such "
        f"stages. Here is a server with four small models, in stage s2. Its files are in {world.directory}/:"
    )
    narrator.table(
        ("file", "what it is"),
        [
            (str(world.settings), "the server's settings"),
            (str(world.release), "which stage opens which model to whom"),
            (str(world.policy / "agreements/example-lab.yaml"), "what a partner may do, and what for"),
            (str(world.token(VISITOR)), "a token of the public"),
            (str(world.token(PARTNER)), "a token of the partner, example-lab"),
            (str(world.token(INSIDER)), "a token of the operator's own team"),
            (str(world.log), "the server's log"),
        ],
    )
    narrator.command(f"sluicegate serve --config {world.settings} 2> {world.log}")
    narrator.say(f"The server starts, and loads {', '.join(MODELS)}:")


def _keep(world: World, addresses: Addresses, programs: Path, server: Server, narrator: Narrator) -> None:
    """Stay until Ctrl-C. Raises DemoError if the server ends before."""
    try:
        narrator.title("Your turn")
        narrator.say("The server runs until Ctrl-C here. In another terminal, in this directory:")
        for line in tour.own_turn(world, addresses, programs):
            narrator.command(line)
        narrator.say("The tokens are good for an hour. New ones:")
        for caller in CALLERS:
            narrator.command(tour.issue_token(world, caller))
        code = server.wait()
    except KeyboardInterrupt:
        return
    raise DemoError(f"the server ended with exit code {code}; {server.tail()}")
