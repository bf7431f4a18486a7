"""A shell that only says what its commands would, and a clock that sleeps move: for the demo's tour."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sluicegate.server.demo.figures import Figures
from sluicegate.server.demo.narrator import Narrator
from sluicegate.server.demo.shell import Outcome
from sluicegate.server.demo.steps import Guide


class FakeShell:
    """Ends each command with the next outcome; its output comes in one piece for each line."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = iter(outcomes)
        self.lines: list[str] = []
        self.interrupted: list[str] = []

    def run(self, line: str, show: Callable[[str], None], interrupt_when: Callable[[], bool] | None = None) -> Outcome:
        self.lines.append(line)
        outcome = next(self._outcomes)
        for piece in outcome.output.splitlines(keepends=True):
            show(piece)
            if interrupt_when is not None and interrupt_when():
                self.interrupted.append(line)
                break
        return outcome


class FakeTime:
    """Sleeping moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now


def guide(shell: FakeShell, readings: Sequence[str] = ()) -> Guide:
    """A guide whose server shows these metrics, one reading after the other; the last one stays."""
    time = FakeTime()
    left = _last_stays(readings)
    narrator = Narrator(plain=True, pauses=False)
    return Guide(narrator, shell, lambda: Figures(next(left)), sleep=time.sleep, clock=time.clock)


def _last_stays(readings: Sequence[str]) -> Iterator[str]:
    yield from readings
    while True:
        yield readings[-1] if readings else ""
