"""The kinds of steps of a tour. Each shows something, and says in what it was not as narrated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sluicegate.server.demo.figures import Figures
from sluicegate.server.demo.narrator import Narrator
from sluicegate.server.demo.shell import Outcome

LIMIT_SECONDS = 10.0
"""For the server to show what a step waits for; it takes a second or two."""
INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""
_POLL_SECONDS = 0.05

RUNNING = "sluicegate_engine_sequences_running"
ACTIVE = "sluicegate_streams_active"
ENDED = "sluicegate_streams_terminated_total"


class CommandRunner(Protocol):
    """Runs a command line; shell.py has the real one."""

    def run(
        self, line: str, show: Callable[[str], None], interrupt_when: Callable[[], bool] | None = None
    ) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Guide:
    """What a step works with."""

    narrator: Narrator
    shell: CommandRunner
    figures: Callable[[], Figures]
    """Reads the server's metrics now. Raises OSError."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def run(self, line: str, interrupt_when: Callable[[], bool] | None = None) -> Outcome:
        """Run a line with its output shown."""
        outcome = self.shell.run(line, self.narrator.output, interrupt_when)
        self.narrator.end_output()
        return outcome

    def see(self, condition: Callable[[Figures], bool]) -> bool:
        """Whether the metrics come to fulfil the condition within the limit."""
        deadline = self.clock() + LIMIT_SECONDS
        while not condition(self.figures()):
            if self.clock() > deadline:
                return False
            self.sleep(_POLL_SECONDS)
        return True


class Step(Protocol):
    """One step of a tour."""

    @property
    def say(self) -> str: ...

    def run(self, guide: Guide) -> Sequence[str]:
        """Do it. Gives what was not as narrated; nothing if all was."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that ends by itself, with this exit code and these texts in its output, and without the others."""

    say: str
    line: str
    exit_code: int = 0
    shows: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()

    def run(self, guide: Guide) -> Sequence[str]:
        guide.narrator.command(self.line)
        outcome = guide.run(self.line)
        problems = []
        if outcome.exit_code != self.exit_code:
            problems.append(f"ended with exit code {outcome.exit_code}, not {self.exit_code}")
        if not outcome.output.strip():
            problems.append("wrote nothing")
        problems += [f"does not show {text!r}" for text in self.shows if text not in outcome.output]
        problems += [f"shows {text!r}" for text in self.hides if text in outcome.output]
        return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Commands that cannot be run here, and why."""

    say: str
    lines: tuple[str, ...]
    why: str

    def run(self, guide: Guide) -> Sequence[str]:
        for line in self.lines:
            guide.narrator.command(line)
        guide.narrator.aside(self.why)
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """A stream that Ctrl-C ends while it runs, and the metrics that show its slot free again."""

    say: str
    line: str
    model: str

    def run(self, guide: Guide) -> Sequence[str]:
        guide.narrator.command(f"{self.line}   # and Ctrl-C")
        before = guide.figures()
        seen_running: list[Figures] = []

        def is_running() -> bool:
            figures = guide.figures()
            if figures.total(RUNNING, model=self.model) and figures.total(ACTIVE, model=self.model):
                seen_running.append(figures)
            return bool(seen_running)

        outcome = guide.run(f"exec {self.line}", is_running)  # exec: no shell in between takes the signal
        if not seen_running:
            return ["the stream ended before the metrics showed it running"]
        cancelled_before = before.total(ENDED, model=self.model, cause="CANCELLED")

        def is_free(figures: Figures) -> bool:
            held = figures.total(RUNNING, model=self.model) + figures.total(ACTIVE, model=self.model)
            return not held and figures.total(ENDED, model=self.model, cause="CANCELLED") == cancelled_before + 1

        is_free_again = guide.see(is_free)
        self._show(guide, [before, seen_running[0], guide.figures()])
        problems = []
        if outcome.exit_code != INTERRUPTED:
            problems.append(f"ended with exit code {outcome.exit_code}, not {INTERRUPTED}")
        if not is_free_again:
            problems.append(f"the metrics did not show the slot of {self.model} free again")
        return problems

    def _show(self, guide: Guide, readings: Sequence[Figures]) -> None:
        rows = [
            [label, *(f"{reading.total(name, model=self.model, **labels):.0f}" for reading in readings)]
            for label, name, labels in (
                (RUNNING, RUNNING, {}),
                (ACTIVE, ACTIVE, {}),
                (f"{ENDED} (cancelled)", ENDED, {"cause": "CANCELLED"}),
            )
        ]
        guide.narrator.table([f"/metrics, {self.model}", "before", "during", "after"], rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChange:
    """A command that changes the policy's active stage while the server runs."""

    say: str
    line: str
    stage: str

    def run(self, guide: Guide) -> Sequence[str]:
        guide.narrator.command(self.line)
        outcome = guide.run(self.line)
        if outcome.exit_code:
            return [f"ended with exit code {outcome.exit_code}"]
        if not guide.see(lambda figures: figures.total("sluicegate_policy_info", stage=self.stage) == 1):
            return [f"the server did not come to stage {self.stage}"]
        guide.narrator.aside(f"the server is in stage {self.stage} now")
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A metric's samples that are not 0, read from the server, and the command that shows the same."""

    say: str
    line: str
    name: str
    shows: tuple[str, ...]

    def run(self, guide: Guide) -> Sequence[str]:
        guide.narrator.command(self.line)
        lines = guide.figures().lines(self.name)
        guide.narrator.output("".join(line + "\n" for line in lines))
        return [f"does not show {text!r}" for text in self.shows if not any(text in line for line in lines)]
