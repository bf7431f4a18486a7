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


@dataclass(frozen=True, slots=True)
class _End:
    """How one stream ended, and when by the guide's clock."""

    at: float
    outcome: Outcome

    @property
    def is_finished(self) -> bool:
        return self.outcome.exit_code == 0

    @property
    def is_ended(self) -> bool:
        """By the change of stage, while it ran or waited for its slot."""
        return self.outcome.exit_code == _REFUSED and "STAGE_CHANGED" in self.outcome.output

    @property
    def is_late(self) -> bool:
        """It came when the stage had changed."""
        return self.outcome.exit_code == _REFUSED and "MODEL_NOT_RELEASED" in self.outcome.output


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Streams that run and wait for slots, and a command that goes back a stage: each that is left ends with
    STAGE_CHANGED, within two seconds."""

    say: str
    stream: str
    visitors: int
    line: str
    model: str

    def run(self, guide: Guide) -> Sequence[str]:
        ends: list[_End] = []

        def visit() -> None:
            outcome = guide.shell.run(self.stream, lambda _: None)
            ends.append(_End(guide.clock(), outcome))

        guide.narrator.command(f"for visitor in $(seq {self.visitors}); do {self.stream} > /dev/null & done")
        threads = [threading.Thread(target=visit) for _ in range(self.visitors)]
        for thread in threads:
            thread.start()
        are_running = guide.see(lambda figures: figures.total(ACTIVE, model=self.model) > 1)
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
        return problems + self._judge(guide, ends, min(answered, default=0.0))

    def _judge(self, guide: Guide, ends: Sequence[_End], answered: float) -> list[str]:
        ended = [end for end in ends if end.is_ended]
        finished, late = sum(end.is_finished for end in ends), sum(end.is_late for end in ends)
        guide.narrator.aside(
            f"of {len(ends)} streams {len(ended)} ended with STAGE_CHANGED, {finished} had finished before, and {late}"
            " came too late"
        )
        problems = [
            f"a stream ended with exit code {end.outcome.exit_code}: {end.outcome.output[-300:]}"
            for end in ends
            if not (end.is_ended or end.is_finished or end.is_late)
        ]
        if not ended:
            return [*problems, "no stream ended with STAGE_CHANGED"]
        slowest = max(end.at for end in ended) - answered
        guide.narrator.aside(f"the last of them had ended {max(0.0, slowest):.2f} s after the operator was answered")
        if slowest > LIMIT_SECONDS:
            problems.append(f"a stream ended {slowest:.1f} s after the operator was answered")
        return problems
