"""The `sluicegate` command line as a process."""

from __future__ import annotations

import io
import os
import sys

_INTERRUPTED = 130
"""What exits.py says too: an interrupt may come before that is loaded."""


def main() -> None:
    """Run the command that the process's arguments name; ends in SystemExit."""
    try:
        _run()
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None


def _run() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A model may write what the terminal's encoding lacks.
            stream.reconfigure(errors="replace")
    # gRPC's core would write lines of its own between ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Loading takes a tenth of a second, in which Ctrl-C may come.
    from sluicegate.client.commands.app import build_app

    build_app()()
