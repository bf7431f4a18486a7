"""The steps that only this tour has."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sluicegate.server.demo.shell import Outcome
from sluicegate.server.demo.steps import ACTIVE, Guide

LIMIT_SECONDS = 2.0
"""From the answer to the operator until the last stream has ended at its caller."""
_REFUSED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Streams that run, and a command that goes back a stage: each ends with STAGE_CHANGED, within two seconds."""

    say: str
    streams: tuple[str, ...]
    line: str
    model: str

    def run(self, guide: Guide) -> Sequence[str]:
        ended: dict[int, tuple[float, Outcome]] = {}

        def stream(number: int, line: str) -> None:
            outcome = guide.shell.run(line, lambda _: None)
            ended[number] = (guide.clock(), outcome)

        threads = [threading.Thread(target=stream, args=each) for each in enumerate(self.streams)]
        for thread, line in zip(threads, self.streams, strict=True):
            guide.narrator.command(f"{line} > /dev/null &")
            thread.start()
        are_running = guide.see(lambda figures: figures.total(ACTIVE, model=self.model) == len(threads))
        guide.narrator.command(self.line)
        answered: list[float] = []

        def show(piece: str) -> None:
            answered.append(guide.clock())
            guide.narrator.output(piece)

        outcome = guide.shell.run(self.line, show)
        guide.narrator.end_output()
        for thread in threads:
            thread.join()
        problems = [] if are_running else ["the streams did not come to run together"]
        problems += [f"ended with exit code {outcome.exit_code}"] if outcome.exit_code else []
        slowest = max(at for at, _ in ended.values()) - min(answered, default=0.0)
        for number, (_, of_stream) in sorted(ended.items()):
            last = (of_stream.output.strip().splitlines() or [""])[-1]
            guide.narrator.output(f"stream {number + 1}, exit code {of_stream.exit_code}: {last}\n")
            if of_stream.exit_code != _REFUSED or "STAGE_CHANGED" not in of_stream.output:
                problems.append(f"stream {number + 1} did not end with STAGE_CHANGED")
        guide.narrator.aside(f"the last of them had ended {max(0.0, slowest):.2f} s after the operator was answered")
        if slowest > LIMIT_SECONDS:
            problems.append(f"a stream ended {slowest:.1f} s after the operator was answered")
        return problems
