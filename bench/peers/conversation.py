"""Our side of the conversation with an engine's process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import machine
from bench.peers.catalog import ADAPTORS, Peer
from bench.peers.serving import Output, Setup
from bench.work import Request

ROOT = Path(__file__).parents[2]
LOAD_SECONDS = 900.0
ANSWER_SECONDS = 1_200.0
STOP_SECONDS = 40.0


class Missing(Exception):
    """A peer that cannot be measured, and why. It stands in the results: nothing is left out in silence."""


@dataclass(frozen=True, slots=True)
class Round:
    """One piece of work, done once."""

    seconds: float
    output: Output
    use: machine.Usage


class EngineProcess:
    """An engine that is loaded and idle until it is asked."""

    def __init__(self, peer: Peer, process: subprocess.Popen[str], log: Path, limit_seconds: float) -> None:
        """Waits until it is loaded. Raises Missing."""
        self.peer = peer
        self._process = process
        self._log = log
        ready = self._read(limit_seconds)
        self.load_seconds: float = ready["ready"]["seconds"]
        self.versions: dict[str, str] = ready["ready"]["versions"]
        self.form: str = ready["ready"]["form"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def generate(self, work: Sequence[Request]) -> Round:
        """Do this work. Raises Missing if the engine failed at it, or gave other than what was asked for."""
        asked = {
            "do": "generate",
            "prompts": [request.prompt for request in work],
            "outputs": [request.output for request in work],
        }
        with machine.usage([self.pid]) as use:
            found = self._ask(asked)
        output = Output(found["ids"], found["arrivals"])
        lengths = [len(row) for row in output.ids]
        if lengths != asked["outputs"]:
            raise Missing(f"gave {lengths} tokens, not the {asked['outputs']} that were asked for")
        return Round(found["seconds"], output, use)

    def logits(self, texts: Sequence[Sequence[int]], last: int, path: Path) -> Path:
        """A file of float32 rows, as `serving.Engine.logits` gives them. Raises Missing."""
        self._ask({"do": "logits", "texts": list(texts), "last": last, "path": os.fspath(path)})
        return path

    def peak_bytes(self) -> int:
        return machine.peak_bytes(machine.family(self.pid))

    def _ask(self, message: Mapping[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise Missing(f"its process has ended; see {self._log}") from None
        return self._read(ANSWER_SECONDS)

    def _read(self, limit_seconds: float) -> dict[str, Any]:
        """The next answer. One that takes too long is ended by its process' end."""
        assert self._process.stdout is not None
        limit = threading.Timer(limit_seconds, self._process.kill)
        limit.start()
        try:
            line = self._process.stdout.readline()
        finally:
            limit.cancel()
        if not line:
            raise Missing(f"its process ended, or took more than {limit_seconds:.0f} s; see {self._log}")
        answer: dict[str, Any] = json.loads(line)
        if (cause := answer.get("failed")) is not None:
            raise Missing(cause)
        return answer


@contextmanager
def started(peer: Peer, setup: Setup, python: Path, preload: str, log: Path) -> Iterator[EngineProcess]:
    """Start an engine's process and load it; it is ended on the way out, with all that it started. Raises Missing."""
    fields = asdict(setup) | {"checkpoint": os.fspath(setup.checkpoint), "work": os.fspath(setup.work)}
    variables = os.environ | {
        "OMP_NUM_THREADS": str(setup.threads),
        "LD_PRELOAD": preload,
        "TOKENIZERS_PARALLELISM": "false",
    }
    if peer.environment is not None:
        variables["PYTHONPATH"] = os.fspath(ROOT)  # and nothing else of ours
    else:
        variables["PYTHONPATH"] = os.pathsep.join([os.fspath(ROOT), os.environ.get("PYTHONPATH", "")])
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603  (our own adaptors)
            [os.fspath(python), "-m", f"{ADAPTORS}.{peer.module}", json.dumps(fields)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=variables,
            cwd=log.parent,
            start_new_session=True,  # Ctrl-C is for the bench, which then ends the engines
        )
    try:
        yield EngineProcess(peer, process, log, LOAD_SECONDS)
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """The end of its standard input tells it to end; what is left of its session is killed."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
