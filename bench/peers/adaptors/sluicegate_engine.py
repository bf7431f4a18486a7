"""Our engine alone: its process, asked over ZeroMQ as the server asks it."""

from __future__ import annotations

import atexit
from array import array
from asyncio import Runner
from collections.abc import Iterable
from contextlib import AsyncExitStack

from bench.driving import MODEL, STEP_TOKENS, ask_engine, running_engine
from bench.machine import version_of
from bench.peers.serving import Output, Setup, main
from bench.work import VOCABULARY, Request
from sluicegate.server.engine.messages import Load
from sluicegate.server.engine.runner import Chunk


class SluicegateEngine:
    """The format is the model's `dtype`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._runner, self._stack = Runner(), AsyncExitStack()
        engine = running_engine(setup.checkpoint, dtype=setup.format, slots=setup.slots, threads=setup.threads)
        atexit.register(self._close)
        self._engine = self._runner.run(self._stack.enter_async_context(engine))

    @property
    def versions(self) -> dict[str, str]:
        return {name: version_of(name) for name in ("sluicegate", "torch")}

    @property
    def form(self) -> str:
        facts = self._engine.facts(MODEL)
        return facts.dtype if facts else ""

    def generate(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        work = [Request(*each) for each in zip(prompts, outputs, strict=True)]
        answers = self._runner.run(ask_engine(self._engine, work))
        return Output([answer.ids for answer in answers], [answer.arrivals for answer in answers])

    def logits(self, texts: list[list[int]], last: int) -> Iterable[bytes]:
        """By a runner of its own, loaded here as the engine loads it: what may follow each token is what it scores."""
        from sluicegate.server.gpt2.loading import load_runner

        load = Load(
            model=MODEL,
            directory=str(self._setup.checkpoint),
            weights_sha256=None,
            device="cpu",
            dtype=self._setup.format,
            slots=1,
            step_tokens=STEP_TOKENS,
        )
        runner = load_runner(load)
        for text in texts:
            begin = len(text) - last + 1
            runner.open(0, None, 0, text)
            for start, end in [(0, begin - 1), *((index, index + 1) for index in range(begin - 1, len(text)))]:
                is_wanted = start >= begin - 1
                targets = [0] if is_wanted else []
                chunk = Chunk(0, start, text[start:end], samples=False, targets=targets, score_top=VOCABULARY)
                (outcome,) = runner.run([chunk])
                if is_wanted:
                    row = array("f", bytes(4 * VOCABULARY))
                    for token in outcome.top[0]:
                        row[token.id] = token.logprob
                    yield row.tobytes()
            runner.close(0)

    def _close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


if __name__ == "__main__":
    main(SluicegateEngine)
