"""Random schedules: a storm of requests, aborts, deadlines, failures and want of memory around one scheduler.

What each step must hold is asserted in it: the books agree, every sequence ends exactly once with the tokens of the
script, streams keep their rhythm, and fair shares stay within their bound. What a chunk attends to is asserted by the
scripted runner.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from scripted_drafts import AtRandom, ScriptedDrafter, at_random
from scripted_runner import EOS, OpenSlot, ScriptedRunner, count_up

from sluicegate.server.engine.errors import StepOutOfMemory
from sluicegate.server.engine.fairness import TOKEN
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
from sluicegate.server.engine.runner import Chunk, Runner
from sluicegate.server.engine.scheduler import MINIMUM_PREFILL_TOKENS, Scheduler, Step
from sluicegate.server.engine.speculation import SpeculativeRunner

SLOTS = 6
CONTEXT = 96
STEP_TOKENS = 20
IDENTITIES = ("flood", "flood", "flood", "flood", "calm", "")
PRIORITIES = (0, 0, 0, 2, -1)
SALTS = ("", "lab", "lab", "lab", "other")

# Two identities that always wait, and get all that they ask for. By their prompts' first token they are known, so that
# no failure is theirs: what is given back for a failure buys no lead, and so is lost to who asks without end.
RIVALS = {"left": 998, "right": 999}
LONGEST_OF_RIVALS = {"left": 60, "right": 30}  # tokens that one request may take


def script(candidate: int, position: int, prompt: tuple[int, ...]) -> int:
    """Ends a text at a place that depends on prompt and candidate."""
    ends = (prompt[0] + 7 * candidate) % 60
    return EOS if position - len(prompt) == ends else count_up(candidate, position, prompt)


@dataclass(slots=True)
class Sent:
    """A request on its way, and what has come of it: the tokens of each candidate that has not ended."""

    message: Submit | Score
    number: int
    tokens: dict[int, list[int]] = field(default_factory=dict)
    is_started: bool = False


@dataclass(slots=True)
class Tally:
    """What a storm came to."""

    requests: int = 0
    finishes: Counter[Finish | None] = field(default_factory=Counter)
    cached_tokens: int = 0
    accepted_tokens: int = 0
    steps_out_of_memory: int = 0
    served: Counter[str] = field(default_factory=Counter)  # tokens of the rivals' requests that have started
    widest_lead: int = 0


class Storm:
    """Throws seeded random requests and disturbances at a scheduler and watches its events.

    With rivals, slots are never free; without, there are calms in which they keep what they know. If it speculates, its
    drafter is right seven times in ten.
    """

    def __init__(self, seed: int, *, has_rivals: bool, speculates: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.runner = ScriptedRunner(slots=SLOTS, context_length=CONTEXT, script=script)
        self.drafter = ScriptedDrafter(script, at_random(seed, 0.7))
        self._stepper: Runner = self.runner
        if speculates:
            self._stepper = SpeculativeRunner(self.runner, self.drafter, AtRandom(4, seed), lambda: self.now)
        self.scheduler = Scheduler(self._stepper, step_tokens=STEP_TOKENS, clock=lambda: self.now)
        self.tally = Tally()
        self._live: dict[str, Sent] = {}
        self._texts: deque[list[int]] = deque(maxlen=4)
        self._waiting: Counter[str] = Counter()  # of the rivals
        self._rivals_wait = has_rivals
        self._arrivals_per_step = 0.5
        self._last_start: dict[tuple[str, int], int] = {}

    def rage(self, steps: int) -> None:
        """So many steps, and then as many as it takes until nothing is left."""
        for _ in range(steps):
            for rival in RIVALS if self._rivals_wait else ():
                while self._waiting[rival] <= SLOTS:  # even if all of them were given to it at once, it would wait
                    self._send_rival(rival)
            if self.random.random() < 0.01:
                self._arrivals_per_step = self.random.choice([0.02, 0.1, 0.5])
            if self.scheduler.queued < 5 + self._waiting.total() and self.random.random() < self._arrivals_per_step:
                self._send()
            self._disturb()
            self._step()
        self._rivals_wait = False
        while self.scheduler.has_work:
            self._step()
        assert self.runner.open_slots == {}
        assert self.drafter.open_slots == set()
        assert self._live == {}

    # What comes in

    def _send(self) -> None:
        draw, choice = self.random.random, self.random.choice
        deadline = self.now + self.random.randrange(1, 60) if draw() < 0.2 else None
        identity, priority = choice(IDENTITIES), choice(PRIORITIES)
        prompt = [self.random.randrange(1, 900) for _ in range(choice([1, 2, 20, 40, 80]))]
        if draw() < 0.5:  # begin like others
            start = choice([3, 5])
            prompt[:-1] = range(start, start + len(prompt) - 1)
        elif self._texts and draw() < 0.5:  # go on with a text that was generated
            prompt = [*choice(self._texts)[: CONTEXT - 10], *prompt[:5]]
        name = str(self.tally.requests)
        if draw() < 0.2:
            score = Score(
                request=name, model="m", ids=[*prompt, 1], deadline=deadline, identity=identity, priority=priority
            )
            self._submit(score)
            return
        submit = Submit(
            request=name,
            model="m",
            prompt=prompt,
            candidates=choice([1, 1, 1, 2, 3, SLOTS, SLOTS + 1]),
            sampling=Sampling(max_output_tokens=choice([1, 2, 10, 200]), ignore_eos=draw() < 0.3),
            deadline=deadline,
            identity=identity,
            priority=priority,
            cache_salt=choice(SALTS),
        )
        self._submit(submit)

    def _send_rival(self, rival: str) -> None:
        tokens = self.random.randint(2, LONGEST_OF_RIVALS[rival])
        outputs = self.random.randrange(1, tokens)
        prompt = [RIVALS[rival], *range(2, tokens - outputs + 1)]
        submit = Submit(
            request=str(self.tally.requests),
            model="m",
            prompt=prompt,
            sampling=Sampling(max_output_tokens=outputs, ignore_eos=True),
            identity=rival,
        )
        self._waiting[rival] += 1
        self._submit(submit)

    def _submit(self, message: Submit | Score) -> None:
        candidates = message.candidates if isinstance(message, Submit) else 1
        self._live[message.request] = Sent(
            message, self.tally.requests, {candidate: [] for candidate in range(candidates)}
        )
        self.tally.requests += 1
        self.scheduler.submit("front", message)

    def _disturb(self) -> None:
        """Perhaps abort something that lives, or that does not."""
        if self.random.random() < 0.1:
            recent = str(self.random.randrange(max(0, self.tally.requests - 20), max(1, self.tally.requests)))
            sent = self._live.get(recent)
            if sent is None or sent.message.identity not in RIVALS:
                self.scheduler.abort("front", recent, self.random.choice([None, 0, 1, 2]))

    # A step

    def _step(self) -> None:
        self.now += 1
        if self.random.random() < 0.01:
            self.runner.memory = self.random.choice([1, 3, 10, *[math.inf] * 5])
        step = self.scheduler.schedule()
        self._check_rhythm(step.chunks)
        if step.chunks and self.random.random() < 0.005:
            self._fail()
        elif step.chunks:
            self._run(step)
        self.runner.steps.clear()
        self.runner.copies.clear()
        self._watch()
        self.scheduler.check()
        assert len(self.runner.open_slots) == self.scheduler.running
        assert self.scheduler.has_work == bool(self._live)

    def _run(self, step: Step) -> None:
        try:
            outcomes = self._stepper.run(step.chunks)
        except StepOutOfMemory:
            self.tally.steps_out_of_memory += 1
            assert self.scheduler.run_smaller(step) == 0
        else:
            self.tally.accepted_tokens += sum(len(outcome.drawn) - 1 for outcome in outcomes if outcome.drafted)
            self._disturb()
            self.scheduler.commit(step, outcomes)

    def _fail(self) -> None:
        """A step fails: some slots are at fault and spoiled, or all."""
        slots = [slot for slot, held in self.runner.open_slots.items() if not _is_rival(held)]
        if self.random.random() < 0.5:
            slots = [slot for slot in slots if self.random.random() < 0.5]
        for slot in slots:
            self.runner.cache[slot] = []
        self.scheduler.fail_running(slots)

    def _check_rhythm(self, chunks: Sequence[Chunk]) -> None:
        """Every slot that has drawn a token is in every step, unless memory is short, and the budget holds."""
        fed = {chunk.slot for chunk in chunks}
        streams = {slot for slot, held in self.runner.open_slots.items() if held.drawn}
        assert streams <= fed or self.scheduler.is_short_of_memory
        rows = sum(len(chunk.ids) == 1 for chunk in chunks)
        total = sum(len(chunk.ids) for chunk in chunks)
        assert total <= max(STEP_TOKENS, rows + MINIMUM_PREFILL_TOKENS)
        if self.runner.open_slots:
            assert chunks

    # What comes out

    def _watch(self) -> None:
        for event in self.scheduler.take_events().get("front", []):
            match event:
                case Started():
                    self._start(self._live[event.request])
                    self.tally.cached_tokens += event.cached_tokens
                case Token():
                    self._live[event.request].tokens[event.candidate].append(event.id)
                case Finished():
                    self._end(event.request, event.candidate, event.finish)
                case Scored() | Refused():
                    for candidate in list(self._live[event.request].tokens):
                        self._end(event.request, candidate, None)

    def _start(self, sent: Sent) -> None:
        """First come, first served among those of one identity and priority; and between rivals fair shares."""
        message = sent.message
        assert not sent.is_started
        sent.is_started = True
        rank = message.identity, message.priority
        assert self._last_start.get(rank, -1) < sent.number
        self._last_start[rank] = sent.number
        if message.identity in RIVALS:
            assert isinstance(message, Submit)
            self._waiting[message.identity] -= 1
            self.tally.served[message.identity] += len(message.prompt) + message.sampling.max_output_tokens
            if self._rivals_wait:
                self._check_fairness()

    def _check_fairness(self) -> None:
        """Two that always wait never differ by more tokens than the largest request of each has, and a 64th of that.

        Goyal, Vin and Cheng 1997, theorem 1; the 64th is that of a request's own tokens in its turn (fairness.py).
        """
        left, right = (self.tally.served[rival] for rival in RIVALS)
        self.tally.widest_lead = max(self.tally.widest_lead, abs(left - right))
        assert abs(left - right) <= sum(LONGEST_OF_RIVALS.values()) * (1 + 1 / TOKEN)

    def _end(self, name: str, candidate: int, finish: Finish | None) -> None:
        """Exactly once, with the script's tokens."""
        sent = self._live[name]
        tokens = sent.tokens.pop(candidate)  # KeyError: it had ended
        self.tally.finishes[finish] += 1
        if isinstance(sent.message, Submit):
            prompt = tuple(sent.message.prompt)
            assert tokens == [script(candidate, len(prompt) + index, prompt) for index in range(len(tokens))]
            if sent.message.identity in RIVALS:
                assert finish is Finish.MAX_OUTPUT_TOKENS
            else:
                self._texts.append([*prompt, *tokens])
        if not sent.tokens:
            del self._live[name]


def _is_rival(held: OpenSlot) -> bool:
    return held.prompt[0] in RIVALS.values()
