"""Open a model on evidence and two signatures, and go back when a finding arrives: the whole of a staged release.

    make demo-release                 about a minute
    make demo-release KEEP=1          leaves the files, the report among them

Everything listens on loopback and runs on the demo models. The tour checks itself.

Exit codes: 0 all was as narrated, 1 something was not or could not start, 2 wrong usage, 130 ended with Ctrl-C before
the tour was over.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

from sluicegate.auth import AuthError
from sluicegate.server.demo import tour
from sluicegate.server.demo.errors import DemoError
from sluicegate.server.demo.figures import read_figures
from sluicegate.server.demo.narrator import Narrator
from sluicegate.server.demo.server import started
from sluicegate.server.demo.shell import Shell, environment
from sluicegate.server.demo.steps import INTERRUPTED, Guide
from sluicegate.server.demo.world import claimed
from tools.demo_release.story import chapters
from tools.demo_release.world import write_release_world

DIRECTORY = Path(".demo-release")
"""For its files. Removed at the end, unless something was not as narrated or they are to be kept."""
_BIN = Path(sys.executable).absolute().parent


def main() -> int:
    """The demo, from start to end."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.demo_release",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keep", action="store_true", help="leave the files")
    parser.add_argument("--plain", action="store_true", help="no colours")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    narrator = Narrator(plain=arguments.plain, pauses=False)
    problems: list[str] = []
    try:
        with claimed(DIRECTORY):
            problems = _show(narrator)
    except (DemoError, AuthError, OSError) as error:
        narrator.end_output()
        sys.stderr.write(f"demo-release: {error}\n")
        return 1
    except KeyboardInterrupt:
        narrator.end_output()
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        narrator.say("Ended early; the server is stopped.")
        return INTERRUPTED
    if problems:
        narrator.bad("\n".join(["Not everything was as narrated:", *problems, f"All files are in {DIRECTORY}/."]))
        return 1
    narrator.good("Everything was as narrated.")
    if arguments.keep:
        narrator.say(f"The report is {DIRECTORY}/report/report.html.")
    else:
        shutil.rmtree(DIRECTORY)
    return 0


def _show(narrator: Narrator) -> list[str]:
    """The server's whole life. Gives what was not as narrated."""
    narrator.title("A model before its release")
    narrator.say(
        "Stage s2 has demo-m for partners; s3 would open it to everybody. The plan asks for evidence first, and the "
        "server takes no stage that two people did not sign for."
    )
    for name in ("evaluations", "report", "corpus", "signers"):
        shutil.rmtree(DIRECTORY / name, ignore_errors=True)
    world = write_release_world(DIRECTORY)
    variables = environment(_BIN, "", os.environ)
    with started(_BIN / "sluicegate", world.base.settings, world.base.log, variables) as server:
        addresses = server.wait_until_serving(lambda model: narrator.aside(f"{model} is loaded"))
        narrator.end_step()
        shell = Shell(environment(_BIN, addresses.calls, os.environ), limit_seconds=180)
        guide = Guide(narrator, shell, lambda: read_figures(addresses.metrics))
        problems = tour.run_tour(chapters(world), guide)
        narrator.say("The server drains and stops.")
        if code := server.stop():
            problems.append(f"the server ended with exit code {code}; {server.tail()}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
