"""How a model's steps follow each other: one by one, or each launched before the outcome of the last is taken.

`PlainSteps` is the cycle as it should be understood. `OverlappedSteps` does the same for a device that works by itself:
while that computes one step, the host takes tokens from the one before, tells of them, and decides the next. The tokens
are the same. What ends a sequence is seen one step later there, so that one token is drawn in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from sluicegate.server.engine.errors import StepError, StepOutOfMemory
from sluicegate.server.engine.runner import Flight, Outcome, OverlappingRunner, Runner
from sluicegate.server.engine.scheduler import NO_STEP, Scheduler, Step


@dataclass(frozen=True, slots=True)
class Shortage:
    """A step found no memory; so many sequences ended of it."""

    cause: str
    ended: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a turn: the step whose outcomes were taken, and the seconds that the runner took for it.

    NO_STEP where there was none. `shortage`: of a step in this turn, taken or not. `drafting`: the outcomes that had
    drafts.
    """

    step: Step = NO_STEP
    seconds: float = 0.0
    drafting: Sequence[Outcome] = ()
    shortage: Shortage | None = None


NOTHING = Taken()


class Steps(Protocol):
    """The steps of one model. Engine thread only."""

    @property
    def has_work(self) -> bool:
        """Whether a turn would do anything."""

    def turn(self) -> Taken:
        """Go on by a step. Raises what the runner raises, but for StepOutOfMemory."""


class PlainSteps:
    """Decide a step, run it, take its outcome."""

    def __init__(self, scheduler: Scheduler, runner: Runner, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._clock = clock

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    def turn(self) -> Taken:
        step = self._scheduler.schedule()
        if not step.chunks:
            return NOTHING
        began = self._clock()
        try:
            outcomes = self._runner.run(step.chunks)
        except StepOutOfMemory as error:
            return Taken(shortage=_shortage(self._scheduler, step, error))
        seconds = self._clock() - began
        self._scheduler.commit(step, outcomes)
        return Taken(step, seconds, [outcome for outcome in outcomes if outcome.drafted])


@dataclass(frozen=True, slots=True)
class Launched:
    """A step in flight."""

    step: Step
    flight: Flight


class OverlappedSteps:
    """Decide a step and launch it, and only then take the outcome of the one before.

    A step whose tokens only the host can draw is waited for, and the next one decided when they are known.
    """

    def __init__(self, scheduler: Scheduler, runner: OverlappingRunner) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._last: Launched | None = None

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work or self._last is not None

    def turn(self) -> Taken:
        last, launched = self._last, None
        if last is None or last.flight.feeds_back:
            step = self._scheduler.schedule()
            try:
                launched = self._launch(step)
            except StepOutOfMemory as error:
                self._last = None
                taken = NOTHING if last is None else self._take(last)  # what is computed already is not held back
                return replace(taken, shortage=taken.shortage or _shortage(self._scheduler, step, error))
        self._last = launched
        return NOTHING if last is None else self._take(last)

    def _launch(self, step: Step) -> Launched | None:
        if not step.chunks:
            return None
        launched = Launched(step, self._runner.launch(step.chunks))
        self._scheduler.launched(step)
        return launched

    def _take(self, last: Launched) -> Taken:
        """Wait for a step and commit it. One that fails takes the one behind it along."""
        try:
            self._scheduler.commit(last.step, last.flight.result(), last.flight.seconds)
        except Exception as error:
            self._scheduler.drop(last.step)
            self._forget(self._last)
            self._last = None
            if isinstance(error, StepOutOfMemory):
                return Taken(shortage=_shortage(self._scheduler, last.step, error))
            if isinstance(error, StepError) and error.slots and not self._scheduler.runs_on(error.slots):
                return NOTHING  # it is the fault of a sequence that has ended by now
            raise
        return Taken(last.step, last.flight.seconds)

    def _forget(self, launched: Launched | None) -> None:
        """Wait for a step in flight, and drop what comes of it."""
        if launched is not None:
            with suppress(Exception):
                launched.flight.result()
            self._scheduler.drop(launched.step)


def _shortage(scheduler: Scheduler, step: Step, error: StepOutOfMemory) -> Shortage:
    return Shortage(str(error), ended=scheduler.run_smaller(step))
