"""Drive honest and abusive calls through a real server, and show what Prometheus and Alertmanager make of them.

    make demo-monitoring              about a minute and a half
    make demo-monitoring KEEP=1       leaves everything running until Ctrl-C

The rules are those of the project, sixty times as fast. Everything listens on loopback. The tour checks itself.

Exit codes: 0 all was as narrated, 1 something was not or could not start, 2 wrong usage, 130 ended with Ctrl-C before
the tour was over.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import httpx

from sluicegate.auth import AuthError
from sluicegate.server.demo.errors import DemoError
from sluicegate.server.demo.narrator import Narrator
from sluicegate.server.demo.server import Addresses, Server, started
from sluicegate.server.demo.shell import Outcome, Shell, environment
from sluicegate.server.demo.steps import INTERRUPTED
from sluicegate.server.demo.world import World, claimed, write_world
from tools.demo_monitoring import configs
from tools.demo_monitoring.acts import Stage, acts
from tools.demo_monitoring.inbox import Told, inbox
from tools.demo_monitoring.lookout import Lookout
from tools.demo_monitoring.partners import add_partners, issue_tokens
from tools.demo_monitoring.programs import Programs, alertmanager, find_programs, prometheus
from tools.demo_monitoring.relay import has_networks
from tools.demo_monitoring.tour import Tour

DIRECTORY = Path(".demo-monitoring")
"""For its files. Removed at the end, unless something was not as narrated."""
_BIN = Path(sys.executable).absolute().parent
_FIRST_METRIC = "sluicegate_prompts_seen_total"


@dataclass(frozen=True, slots=True)
class Scenery:
    """All that runs: the server, and the URLs of the others."""

    world: World
    server: Server
    addresses: Addresses
    prometheus: str
    alertmanager: str
    messages: SimpleQueue[Told]


def main() -> int:
    """The demo, from start to end."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.demo_monitoring",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--plain", action="store_true", help="no colours")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    narrator = Narrator(plain=arguments.plain, pauses=False)
    try:
        programs = find_programs()
        with claimed(DIRECTORY):
            problems = _claimed(programs, narrator, keep=arguments.keep)
    except (DemoError, AuthError, OSError) as error:
        narrator.end_output()
        sys.stderr.write(f"demo-monitoring: {error}\n")
        return 1
    except KeyboardInterrupt:
        narrator.end_output()
        narrator.say("Ended early; everything is stopped.")
        return INTERRUPTED
    if problems:
        narrator.bad("\n".join(["Not everything was as narrated:", *problems, f"All logs are in {DIRECTORY}/."]))
    else:
        narrator.good("Everything was as narrated.")
    return 1 if problems else 0


def _claimed(programs: Programs, narrator: Narrator, *, keep: bool) -> list[str]:
    """The demo in its directory, which goes unless its logs are of use. Gives what was not as narrated."""
    try:
        problems = _show(programs, narrator, keep=keep)
    except KeyboardInterrupt:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        raise
    if not problems:
        shutil.rmtree(DIRECTORY)
    return problems


def _show(programs: Programs, narrator: Narrator, *, keep: bool) -> list[str]:
    """The whole life of all processes. Gives what was not as narrated."""
    with _running(programs, narrator) as scenery:
        problems = asyncio.run(_give_tour(scenery, narrator))
        if keep:
            _keep(scenery, narrator)
        narrator.say("Everything stops now.")
        if code := scenery.server.stop():
            problems.append(f"the server ended with exit code {code}; {scenery.server.tail()}")
    return problems


@contextmanager
def _running(programs: Programs, narrator: Narrator) -> Iterator[Scenery]:
    narrator.title("A server, a Prometheus, an Alertmanager")
    narrator.say(
        "Sluicegate counts signs of misuse, Prometheus judges them by rules, Alertmanager tells people. Here all three "
        f"run, with the project's own rules, {configs.SCALE} times as fast: an hour of theirs is a minute here. The "
        "one thing made up is the inbox: it stands for pager and tickets."
    )
    world = write_world(DIRECTORY, datetime.now(UTC))
    add_partners(world)
    for name in ("prometheus", "alertmanager"):
        shutil.rmtree(DIRECTORY / name, ignore_errors=True)
        (DIRECTORY / name).mkdir()
    variables = environment(_BIN, "", os.environ)
    with started(_BIN / "sluicegate", world.settings, world.log, variables) as server, inbox() as messages:
        addresses = server.wait_until_serving(lambda model: narrator.aside(f"{model} is loaded"))
        narrator.aside(f"the server takes calls on {addresses.calls}")
        config = DIRECTORY / "alertmanager/alertmanager.yml"
        config.write_text(configs.alertmanager_config(messages.url), encoding="utf-8")
        with alertmanager(programs.alertmanager, config.parent, config) as teller:
            narrator.aside(f"Alertmanager answers on {teller}")
            rules = DIRECTORY / "prometheus/rules.yml"
            rules.write_text(configs.rules(), encoding="utf-8")
            config = rules.with_name("prometheus.yml")
            config.write_text(configs.prometheus_config(rules, addresses.metrics, teller), encoding="utf-8")
            with prometheus(programs.prometheus, config.parent, config) as judge:
                narrator.aside(f"Prometheus answers on {judge}")
                narrator.end_step()
                yield Scenery(world, server, addresses, judge, teller, messages.messages)


async def _give_tour(scenery: Scenery, narrator: Narrator) -> list[str]:
    shell = Shell(environment(_BIN, scenery.addresses.calls, os.environ))

    async def typed(line: str) -> Outcome:
        narrator.command(line)
        outcome = await asyncio.to_thread(shell.run, line, lambda _: None)
        narrator.output(outcome.output)
        narrator.end_output()
        return outcome

    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        lookout = Lookout(client, scenery.prometheus, scenery.alertmanager, scenery.messages)
        await lookout.wait_until_scraped(_FIRST_METRIC)
        stage = Stage(scenery.world, scenery.addresses.calls, issue_tokens(scenery.world), narrator.say, typed)
        return await Tour(narrator, lookout, stage).give(acts(has_networks=has_networks()))


def _keep(scenery: Scenery, narrator: Narrator) -> None:
    """Stay until Ctrl-C. Raises DemoError if the server ends before."""
    metrics = f"http://{scenery.addresses.metrics}/metrics"
    try:
        narrator.title("Your turn")
        narrator.say("Everything runs until Ctrl-C here:")
        narrator.table(
            ("what", "where"),
            [
                ("Prometheus", f"{scenery.prometheus}/"),
                ("Alertmanager (Debian's has no pages but this)", f"{scenery.alertmanager}/"),
                ("metrics", metrics),
                ("calls", scenery.addresses.calls),
                ("files", f"{DIRECTORY}/"),
            ],
        )
        narrator.command(f"amtool --alertmanager.url={scenery.alertmanager} alert query")
        narrator.command(f"{_BIN / 'sluicegate'} watch {metrics}")
        code = scenery.server.wait()
    except KeyboardInterrupt:
        return
    raise DemoError(f"the server ended with exit code {code}; {scenery.server.tail()}")


if __name__ == "__main__":
    sys.exit(main())
