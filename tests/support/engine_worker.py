"""A real engine process with scripted models: `python -m engine_worker --address ipc://…`.

A Load's directory says how its model behaves, and a prompt that begins with `HANGS` blocks the engine for ever after
its first token.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading

from scripted_runner import ScriptedRunner, count_up

from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.loading import in_loop, in_thread
from sluicegate.server.engine.messages import Load
from sluicegate.server.engine.runner import Runner
from sluicegate.server.observe.log import configure
from sluicegate.server.worker import run_worker

HANGS = 999

# Directories of a Load
MISSING = "/missing"  # cannot be loaded
DEADLY = "/deadly"  # ends the process while it is loaded
ENDLESS = "/endless"  # its load never returns


def script(candidate: int, position: int, prompt: tuple[int, ...]) -> int:
    """Counts up, but hangs where it is asked to."""
    if prompt[0] == HANGS and position > len(prompt):
        threading.Event().wait()
    return count_up(candidate, position, prompt)


def load(message: Load, threads: int | None) -> Runner:
    """A scripted model with as many parameters as there are threads, or what its directory stands for."""
    if message.directory == MISSING:
        raise ModelLoadError(f"{message.model}: no such directory")
    if message.directory == DEADLY:
        os._exit(3)
    if message.directory == ENDLESS:
        threading.Event().wait()
    return ScriptedRunner(slots=message.slots, context_length=1_024, script=script, parameters=threads or 1)


def main() -> int:
    """Run until Stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--load-in-loop", action="store_true", help="answer nothing meanwhile")
    arguments = parser.parse_args()
    start = in_loop if arguments.load_in_loop else in_thread
    configure("error", "json")
    return run_worker(arguments.address, lambda message: load(message, arguments.threads), start)


if __name__ == "__main__":
    sys.exit(main())
