"""An engine process that computes nothing: `python -m bench.frontend.engine`, started by bench.frontend.pod.

It is the engine of every server, loop, scheduler and ZeroMQ, over a runner that reads its tokens off a text.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sluicegate.server.engine.messages import Load, Sampling, WatermarkKey
from sluicegate.server.engine.runner import Chunk, Drawn, ModelFacts, Outcome, Runner
from sluicegate.server.observe.log import configure
from sluicegate.server.tokenizer import Tokenizer
from sluicegate.server.worker import run_worker

TEXT = (
    "It was late when the last of the boats came in, and nobody on the quay had much to say. The nets were dry, the "
    "lamps were lit, and somewhere behind the houses a door was shut against the wind. What they had seen out there "
    "they would tell tomorrow, or the day after, or not at all. "
)
CONTEXT = 1_024


class TextRunner:
    """Plays the Runner by reading a text aloud, token by token and over and over. A step lasts `step_seconds`."""

    def __init__(self, ids: Sequence[int], vocabulary_size: int, slots: int, step_seconds: float) -> None:
        self._drawn = [Drawn(id_) for id_ in ids]
        self._step_seconds = step_seconds
        self._next_step = 0.0
        self.facts = ModelFacts(
            parameters=0,
            context_length=CONTEXT,
            vocabulary_size=vocabulary_size,
            eos_token_id=None,
            weights_sha256="00" * 32,
            dtype="none",
            device="none",
            slots=slots,
            cache_bytes=0,
        )

    def twin(self, slots: int, watermark: WatermarkKey | None) -> Runner:
        raise NotImplementedError

    def open(self, slot: int, sampling: Sampling | None, candidate: int, prompt: Sequence[int]) -> None: ...

    def copy(self, source: int, target: int, length: int) -> None: ...

    def close(self, slot: int) -> None: ...

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        if self._step_seconds:
            time.sleep(max(self._next_step - time.monotonic(), 0))
            self._next_step = time.monotonic() + self._step_seconds
        drawn, length = self._drawn, len(self._drawn)
        return [Outcome([drawn[chunk.end % length]]) if chunk.samples else Outcome() for chunk in chunks]


def main() -> int:
    """Run until Stop."""
    parser = argparse.ArgumentParser(prog="python -m bench.frontend.engine")
    parser.add_argument("--address", required=True)
    parser.add_argument("--step-milliseconds", type=float, required=True)
    options = parser.parse_args()
    configure("warning", "json")

    def load(message: Load) -> Runner:
        tokenizer = Tokenizer.load(Path(message.directory))
        assert message.slots is not None
        return TextRunner(tokenizer.encode(TEXT), tokenizer.size, message.slots, options.step_milliseconds / 1e3)

    return run_worker(options.address, load)


if __name__ == "__main__":
    sys.exit(main())
