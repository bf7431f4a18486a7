"""The storm of schedule_storm.py around steps that overlap: results come late, void, or not at all."""

from __future__ import annotations

import math

from late_runner import LateRunner
from schedule_storm import CONTEXT, SLOTS, STEP_TOKENS, Storm, script

from sluicegate.server.engine.errors import StepError
from sluicegate.server.engine.scheduler import Scheduler
from sluicegate.server.engine.steps import OverlappedSteps

HOSTS_DRAW = frozenset(range(0, 1_000, 17))
"""By the first id of their prompts: sequences whose tokens only the host can draw."""


class OverlappedStorm(Storm):
    """Between two turns requests come and go as they like, while a step is in flight."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, has_rivals=False)
        self.late = LateRunner(
            slots=SLOTS,
            context_length=CONTEXT,
            script=script,
            chance=self.random,
            void_rate=0.02,
            hosts_draw=HOSTS_DRAW,
        )
        self.runner = self.late
        self.scheduler = Scheduler(self.runner, step_tokens=STEP_TOKENS, clock=lambda: self.now)
        self.steps = OverlappedSteps(self.scheduler, self.late)
        self.overlapped_turns = 0
        self.failed_steps = 0

    def _step(self) -> None:
        self.now += 1
        self._disturb()
        if self.random.random() < 0.01:
            self.runner.memory = self.random.choice([1, 3, 10, *[math.inf] * 5])
        if self.random.random() < 0.01:
            slots = [slot for slot in range(SLOTS) if self.random.random() < 0.3]
            self.late.late_failures.append(StepError("at fault", slots))
        self._turn()
        self.runner.steps.clear()
        self.runner.copies.clear()
        self._watch()
        self.scheduler.check()
        self.overlapped_turns += len(self.late.in_flight)
        assert len(self.late.in_flight) <= 1
        landing = len(self.runner.open_slots) - self.scheduler.running
        assert 0 <= landing <= (len(self.late.in_flight[0].chunks) if self.late.in_flight else 0)
        assert self.scheduler.has_work == bool(self._live)
        if not self.scheduler.has_work:
            self._settle()

    def _turn(self) -> None:
        try:
            taken = self.steps.turn()
        except StepError as error:
            self.failed_steps += 1
            self.scheduler.fail_running(error.slots)
            return
        if taken.shortage is not None:
            self.tally.steps_out_of_memory += 1

    def _settle(self) -> None:
        """Nothing is left to do but to wait for what is in flight."""
        while self.steps.has_work:
            self._turn()
        assert self.late.in_flight == []
        assert self.runner.open_slots == {}
