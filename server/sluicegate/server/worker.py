"""An engine process: `python -m sluicegate.server.worker --address ipc://…`. Started by engine.process only.

The front end owns its end: signals that reach the whole process group are ignored, and standard input is a pipe
from the front end, whose end means that the front end is gone.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import structlog

from sluicegate.server.engine.cores import usable_cores
from sluicegate.server.engine.loading import Start, in_loop, in_thread
from sluicegate.server.engine.loop import EngineLoop
from sluicegate.server.engine.messages import Load
from sluicegate.server.engine.runner import Runner
from sluicegate.server.engine.transport import RouterPort
from sluicegate.server.observe.log import LEVELS, STYLES, configure

log = structlog.get_logger()


def run_worker(address: str, load: Callable[[Load], Runner], start: Start = in_thread) -> int:
    """Serve at `address` until Stop, or until standard input ends. Gives the process' exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, systemd's SIGTERM the whole unit:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # streams are drained first, and the front end says when
    threading.Thread(target=_exit_with_parent, args=(address,), name="parent", daemon=True).start()
    try:
        port = RouterPort(address)
        try:
            EngineLoop(port, load, start=start).run()
        finally:
            port.close()
    except Exception:
        log.exception("engine_failed")
        return 1
    return 0


def _exit_with_parent(address: str) -> None:
    """Wait for the end of standard input, then leave at once: not even a hanging step outlives the front end."""
    # Not through sys.stdin: a thread that waits in its buffer makes the interpreter abort when it exits in order.
    while os.read(0, 4_096):
        pass
    socket = Path(address.removeprefix("ipc://"))
    with suppress(OSError):  # nobody else is left to tidy up
        socket.unlink()
        socket.parent.rmdir()
    os._exit(0)


def main() -> int:
    """Run with the real models."""
    parser = argparse.ArgumentParser(prog="python -m sluicegate.server.worker")
    parser.add_argument("--address", required=True, help="ipc:// path of the socket, in a directory of mode 0700")
    parser.add_argument("--threads", type=int, help="CPU threads that a step may use")
    parser.add_argument("--kernels", choices=("auto", "off"), default="auto", help="C++ kernels on a CPU")
    parser.add_argument("--graphs", choices=("auto", "off"), default="auto", help="CUDA graphs")
    parser.add_argument("--log-level", choices=LEVELS, default="info")
    parser.add_argument("--log-format", choices=STYLES, default="json")
    arguments = parser.parse_args()
    configure(arguments.log_level, arguments.log_format)
    # Both are read by torch when the first load imports it. Its threads must not spin while those of the kernels work.
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads or usable_cores())
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    use_kernels, use_graphs = arguments.kernels != "off", arguments.graphs != "off"
    return run_worker(
        arguments.address,
        lambda message: _load(message, use_kernels=use_kernels, use_graphs=use_graphs),
        _start,
    )


def _start(message: Load, work: Callable[[], Runner]) -> Future[Runner]:
    """Beside the streams of other models, where that can be."""
    from sluicegate.server.gpt2.loading import is_loaded_beside_others

    return in_thread(message, work) if is_loaded_beside_others(message.device) else in_loop(message, work)


def _load(message: Load, *, use_kernels: bool, use_graphs: bool) -> Runner:
    """A real model's runner. Importing torch takes seconds, in which the front end must be watched already."""
    from sluicegate.server.gpt2.loading import load_runner

    if not gc.get_freeze_count():  # torch's modules are here to stay; models are not
        gc.collect()
        gc.freeze()
    return load_runner(message, use_kernels=use_kernels, use_graphs=use_graphs)


if __name__ == "__main__":
    sys.exit(main())
