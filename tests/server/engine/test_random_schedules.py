"""Random schedules: whatever comes in whatever order, the scheduler's books agree after every step."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence

import pytest
from scripted_runner import EOS, ScriptedRunner, count_up

from sluicegate.server.engine.errors import StepOutOfMemory
from sluicegate.server.engine.messages import (
    Finish,
    Finished,
    Refused,
    Sampling,
    Score,
    Scored,
    Started,
    Submit,
    Token,
)
from sluicegate.server.engine.runner import Chunk
from sluicegate.server.engine.scheduler import MINIMUM_PREFILL_TOKENS, Scheduler, Step

STEPS = 2_500
SLOTS = 6
CONTEXT = 96
STEP_TOKENS = 20
IDENTITIES = ("flood", "flood", "flood", "flood", "calm", "")
PRIORITIES = (0, 0, 0, 2, -1)
SALTS = ("", "lab", "lab", "other")


def script(candidate: int, position: int, prompt: tuple[int, ...]) -> int:
    """Ends a text at a place that depends on prompt and candidate."""
    ends = (prompt[0] + 7 * candidate) % 60
    return EOS if position - len(prompt) == ends else count_up(candidate, position, prompt)


class Storm:
    """Throws seeded random requests, aborts, deadlines and failures at a scheduler and watches its events."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.runner = ScriptedRunner(slots=SLOTS, context_length=CONTEXT, script=script)
        self.scheduler = Scheduler(self.runner, step_tokens=STEP_TOKENS, clock=lambda: self.now)
        self.sent: dict[str, Submit | Score] = {}
        self.started: list[str] = []
        self.cached_tokens = 0
        self.steps_out_of_memory = 0
        self.tokens: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        self.ends: dict[tuple[str, int], Finish | None] = {}

    def send(self) -> None:
        name = str(len(self.sent))
        draw = self.random.random
        deadline = self.now + self.random.randrange(1, 60) if draw() < 0.2 else None
        identity, priority = self.random.choice(IDENTITIES), self.random.choice(PRIORITIES)
        prompt = [self.random.randrange(1, 1_000) for _ in range(self.random.choice([1, 2, 20, 40, 80]))]
        if draw() < 0.6:  # begin like others
            start = self.random.choice([3, 5])
            prompt[:-1] = range(start, start + len(prompt) - 1)
        message: Submit | Score
        if draw() < 0.2:
            message = Score(
                request=name, model="m", ids=[*prompt, 1], deadline=deadline, identity=identity, priority=priority
            )
        else:
            message = Submit(
                request=name,
                model="m",
                prompt=prompt,
                candidates=self.random.choice([1, 1, 1, 2, 3, SLOTS, SLOTS + 1]),
                sampling=Sampling(max_output_tokens=self.random.choice([1, 2, 10, 200]), ignore_eos=draw() < 0.3),
                deadline=deadline,
                identity=identity,
                priority=priority,
                cache_salt=self.random.choice(SALTS),
            )
        self.sent[name] = message
        self.scheduler.submit("front", message)

    def disturb(self) -> None:
        """Perhaps abort something that lives, or that does not."""
        if self.sent and self.random.random() < 0.1:
            name = str(self.random.randrange(max(0, len(self.sent) - 20), len(self.sent)))
            self.scheduler.abort("front", name, self.random.choice([None, 0, 1, 2]))

    def step(self) -> None:
        self.now += 1
        if self.random.random() < 0.01:
            self.runner.memory = self.random.choice([1, 3, 10, math.inf, math.inf])
        step = self.scheduler.schedule()
        self.check_rhythm(step.chunks)
        if step.chunks and self.random.random() < 0.005:
            self.scheduler.fail_running()
        elif step.chunks:
            self.run(step)
        self.watch()
        self.scheduler.check()
        assert len(self.runner.open_slots) == self.scheduler.running
        assert self.scheduler.has_work == bool(self.live())

    def run(self, step: Step) -> None:
        try:
            outcomes = self.runner.run(step.chunks)
        except StepOutOfMemory:
            self.scheduler.run_smaller(step)
            self.steps_out_of_memory += 1
        else:
            self.disturb()
            self.scheduler.commit(step, outcomes)

    def check_rhythm(self, chunks: Sequence[Chunk]) -> None:
        """Every slot that has drawn a token is in every step, unless memory is short, and the budget holds."""
        fed = {chunk.slot for chunk in chunks}
        streams = {slot for slot, held in self.runner.open_slots.items() if held.drawn}
        assert streams <= fed or self.scheduler.is_short_of_memory
        rows = sum(len(chunk.ids) == 1 for chunk in chunks)
        total = sum(len(chunk.ids) for chunk in chunks)
        assert total <= max(STEP_TOKENS, rows + MINIMUM_PREFILL_TOKENS)
        if self.runner.open_slots:
            assert chunks

    def watch(self) -> None:
        for event in self.scheduler.take_events().get("front", []):
            assert not isinstance(event, Token | Finished) or (event.request, event.candidate) not in self.ends
            match event:
                case Started():
                    self.started.append(event.request)
                    self.cached_tokens += event.cached_tokens
                case Token():
                    self.tokens[event.request, event.candidate].append(event.id)
                case Finished():
                    self.ends[event.request, event.candidate] = event.finish
                case Scored() | Refused():
                    for sequence in self.sequences(event.request):
                        assert sequence not in self.ends
                        self.ends[sequence] = None

    def sequences(self, name: str) -> list[tuple[str, int]]:
        message = self.sent[name]
        count = message.candidates if isinstance(message, Submit) else 1
        return [(name, candidate) for candidate in range(count)]

    def rank(self, name: str) -> tuple[str, int]:
        return self.sent[name].identity, self.sent[name].priority

    def live(self) -> list[tuple[str, int]]:
        recent = list(self.sent)[-200:]
        return [sequence for name in recent for sequence in self.sequences(name) if sequence not in self.ends]


@pytest.mark.parametrize("seed", range(8))
def test_every_sequence_ends_exactly_once_with_the_right_tokens_and_no_slot_leaks(seed: int) -> None:
    storm = Storm(seed)

    for _ in range(STEPS):
        if storm.scheduler.queued < 5 and storm.random.random() < 0.5:
            storm.send()
        storm.disturb()
        storm.step()
    while storm.scheduler.has_work:
        storm.step()

    assert storm.runner.open_slots == {}
    assert storm.cached_tokens > 0
    assert storm.steps_out_of_memory > 0
    assert set(storm.ends) == {sequence for name in storm.sent for sequence in storm.sequences(name)}
    for identity in IDENTITIES:
        for priority in PRIORITIES:
            started = [name for name in storm.started if storm.rank(name) == (identity, priority)]
            assert started == sorted(started, key=int)
    assert {finish for finish in storm.ends.values() if finish} == set(Finish)
    for (name, candidate), tokens in storm.tokens.items():
        message = storm.sent[name]
        assert isinstance(message, Submit)
        prompt = tuple(message.prompt)
        assert tokens == [script(candidate, len(prompt) + index, prompt) for index in range(len(tokens))]
