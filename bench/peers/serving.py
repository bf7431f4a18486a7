"""The side of the conversation that runs beside an engine: JSON lines in, JSON lines out. Standard library only.

One process for each engine and format. It loads, says `ready`, then waits in a read: an engine that is not asked
has nothing to do, and the bench checks that it does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class NotOffered(Exception):
    """What was asked for, this engine does not do; the text says why."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What an engine is loaded with. `slots`: most sequences at once; `context`: most tokens of one."""

    checkpoint: Path
    work: Path  # a directory that is kept, for what the engine makes of the checkpoint
    format: str  # float32, bfloat16, int8
    slots: int
    context: int
    threads: int

    def converted(self, name: str, convert: Callable[[Path], None]) -> Path:
        """What `convert` makes of the checkpoint, kept in `work`; made once, and whole."""
        path = self.work / name
        if not path.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            unfinished = self.work / f"{name}.{os.getpid()}"
            convert(unfinished)
            unfinished.rename(path)
        return path


@dataclass(frozen=True, slots=True)
class Output:
    """Of one round. `ids`: what followed each prompt; `arrivals`: seconds from the round's begin to each token, where
    the engine streams; else empty."""

    ids: list[list[int]]
    arrivals: list[list[float]]


class Engine(Protocol):
    """One engine with the model loaded. Greedy; end-of-text is an ordinary token."""

    @property
    def versions(self) -> dict[str, str]:
        """Of what does the work."""

    @property
    def form(self) -> str:
        """What the format came to in this engine's own words."""

    def generate(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        """Exactly `outputs` tokens after each of the prompts, all of which are submitted at once."""

    def logits(self, texts: list[list[int]], last: int) -> Iterable[bytes]:
        """float32 logits (or log-probabilities) over the vocabulary, after each of the last `last` prefixes of each
        text, the whole text included; one token fed at a time, where the engine can. Raises NotOffered."""


def main(load: Callable[[Setup], Engine]) -> None:
    """Load, then answer until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("setup", type=json.loads)
    fields: dict[str, Any] = parser.parse_args().setup
    setup = Setup(**fields | {"checkpoint": Path(fields["checkpoint"]), "work": Path(fields["work"])})
    # Engines print what they like. Their standard output becomes standard error, and the conversation keeps the pipe.
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=pipe, flush=True)

    try:
        begun = time.perf_counter()
        engine = load(setup)
        loaded = time.perf_counter() - begun
        answer({"ready": {"seconds": loaded, "versions": engine.versions, "form": engine.form}})
        for line in sys.stdin:
            answer(_answered(engine, json.loads(line)))
    except NotOffered as error:
        answer({"failed": str(error)})
    except Exception as error:
        traceback.print_exc()
        answer({"failed": _cause(error)})


def _answered(engine: Engine, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        if asked["do"] == "generate":
            begun = time.perf_counter()
            output = engine.generate(asked["prompts"], asked["outputs"])
            seconds = time.perf_counter() - begun
            return {"seconds": seconds, "ids": output.ids, "arrivals": output.arrivals}
        with Path(asked["path"]).open("wb") as file:
            file.writelines(engine.logits(asked["texts"], asked["last"]))
        return {"written": asked["path"]}
    except NotOffered as error:
        return {"failed": str(error)}
    except Exception as error:  # one piece of work that an engine cannot do says nothing of the next
        traceback.print_exc()
        return {"failed": _cause(error)}


def _cause(error: Exception) -> str:
    """One line: the whole of it is in the log."""
    return (f"{type(error).__name__}: {error}".splitlines() or [type(error).__name__])[0][:300]
