"""The whole policy of one model's engine: who runs, what each step feeds, when a sequence ends.

Continuous batching (Yu et al. 2022, "Orca", section 3) with chunked prefill (Agrawal et al. 2024,
"Sarathi-Serve", section 4): a sequence joins and leaves at any step; running streams decode in every step,
and prompts get of what is left as much as makes the step last no longer than streams can bear: see prompt_share.py.
Who gets the slots that come free is a matter of fair shares: see fairness.py.

What is known of a prompt's beginning, from an earlier request or one that runs, is not fed again: see slots.py.
Candidates share their prompt: the request's first sequence prefills it, the others follow. When all but
its last token is cached, the followers copy that and feed the last token themselves, each drawing its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection
from collections.abc import Sequence as Items
from dataclasses import dataclass

from sluicegate.server.engine.fairness import FairQueue
from sluicegate.server.engine.messages import (
    Event,
    Finish,
    Finished,
    Refused,
    Score,
    Scored,
    Started,
    Submit,
    Token,
)
from sluicegate.server.engine.prompt_share import PromptShare
from sluicegate.server.engine.runner import Chunk, Drawn, Outcome, Runner
from sluicegate.server.engine.sequence import Request, Sequence, build_request
from sluicegate.server.engine.slots import Slots
from sluicegate.server.engine.step_limit import StepLimit

# Prompts advance by at least this much a step, however many streams decode: an admitted one gets its turn.
# A step thus feeds at most max(step_tokens, slots + MINIMUM_PREFILL_TOKENS) tokens.
MINIMUM_PREFILL_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Step:
    """What to run next: `chunks[i]` is the share of `sequences[i]`.

    `prefill_tokens`: prompt tokens in it. `cached_tokens`: prompt tokens that the requests which start with this step
    need not feed. `began`: when it was decided, by the scheduler's clock.
    """

    sequences: Items[Sequence]
    chunks: Items[Chunk]
    prefill_tokens: int
    cached_tokens: int
    began: float


NO_STEP = Step((), (), 0, 0, 0.0)


class Scheduler:
    """Schedules one model. Engine thread only. `clock` gives monotonic seconds.

    The cycle is `schedule`, `Runner.run`, `commit`, or `run_smaller` where the runner ran out of memory; steps.py has
    it, and the one in which a step is `launched` before the one in front of it is committed, or dropped. `submit` and
    `abort` may come at any point of it.
    """

    def __init__(
        self, runner: Runner, *, step_tokens: int, prefix_reuse: bool = True, clock: Callable[[], float]
    ) -> None:
        self._facts = runner.facts
        self._slots = Slots(runner)
        self._step_tokens = step_tokens
        self._prompts = PromptShare(step_tokens)
        self._limit = StepLimit(max(step_tokens, self._slots.count + MINIMUM_PREFILL_TOKENS))
        self._prefix_reuse = prefix_reuse
        self._clock = clock
        self._arrivals = 0
        self._requests: dict[tuple[str, str], Request] = {}  # all live ones
        self._queue = FairQueue()  # those without slots
        self._running: list[Sequence] = []  # those with slots, in the order in which they got them
        self._landing: set[Sequence] = set()  # those that have ended, but a step in flight still feeds their slots
        self._next_deadline = math.inf  # no live request's deadline is earlier
        self._fastest_step: float | None = None  # seconds, of those that read no prompt; None until there was one
        self._events: defaultdict[str, list[Event]] = defaultdict(list)

    @property
    def has_work(self) -> bool:
        """Whether a step would feed anything."""
        return bool(self._requests)

    @property
    def queued(self) -> int:
        """Requests that wait for slots."""
        return len(self._queue)

    @property
    def is_short_of_memory(self) -> bool:
        """Whether steps are smaller than they would be, since one ran out of memory."""
        return self._limit.is_lowered

    @property
    def running(self) -> int:
        """Sequences that hold a slot."""
        return len(self._running)

    def runs_on(self, slots: Collection[int]) -> bool:
        """Whether a sequence that runs holds one of these slots."""
        return any(sequence.slot in slots for sequence in self._running)

    def knows(self, front_end: str, request: str) -> bool:
        """Whether the front end has a live request of that name."""
        return (front_end, request) in self._requests

    def take_events(self) -> dict[str, list[Event]]:
        """What has happened since the last call, by front end, in order."""
        events, self._events = self._events, defaultdict(list)
        return events

    # Requests come and go

    def submit(self, front_end: str, message: Submit | Score) -> None:
        """Queue a request, or refuse one that can never run."""
        assert not self.knows(front_end, message.request)
        if (cause := self._refusal(message)) is not None:
            self._events[front_end].append(Refused(request=message.request, cause=cause))
            return
        self._arrivals += 1
        request = build_request(front_end, message, self._arrivals, self._clock(), self._facts.eos_token_id)
        if not self._prefix_reuse:
            request.cache_salt = ""
        self._requests[request.key] = request
        self._queue.add(request)
        self._next_deadline = min(self._next_deadline, request.deadline)

    def abort(self, front_end: str, request: str, candidate: int | None = None) -> None:
        """End a request or one of its candidates, queued or running. What has ended already is left alone."""
        found = self._requests.get((front_end, request))
        if found is None:
            return
        for sequence in reversed(found.live.copy()):  # leader last: nothing is copied in vain
            if candidate is None or sequence.candidate == candidate:
                self._finish(sequence, Finish.ABORTED)

    def forget(self, front_end: str) -> None:
        """End everything that a front end asked for; it is not told."""
        for key in [key for key in self._requests if key[0] == front_end]:
            self.abort(*key)
        self._events.pop(front_end, None)

    def abort_all(self) -> None:
        """End everything."""
        for key in list(self._requests):
            self.abort(*key)

    def fail_running(self, slots: Collection[int] | None = None) -> int:
        """End what holds these slots (None: all) as FAILED, after a step that failed; gives their number."""
        failed = [sequence for sequence in self._running if slots is None or sequence.slot in slots]
        for sequence in reversed(failed):
            self._finish(sequence, Finish.FAILED)
        return len(failed)

    def _refusal(self, message: Submit | Score) -> str | None:
        """Why a request can never run. Token ids are checked since a bad one would fail the whole batch."""
        context, vocabulary = self._facts.context_length, self._facts.vocabulary_size
        if isinstance(message, Score):
            ids, shortest, longest = message.ids, 2, context
        else:
            ids, shortest, longest = message.prompt, 1, context - 1
            if not 1 <= message.candidates <= self._slots.count:
                return f"candidates: between 1 and {self._slots.count}, the model's slots"
            if message.sampling.max_output_tokens < 1:
                return "max_output_tokens: at least 1"
            if not all(0 <= token < vocabulary for token in message.sampling.logit_bias):
                return f"logit_bias: token ids are between 0 and {vocabulary - 1}"
        if not shortest <= len(ids) <= longest:
            return f"tokens: between {shortest} and {longest} with a context of {context}"
        if min(ids) < 0 or max(ids) >= vocabulary:
            return f"tokens: token ids are between 0 and {vocabulary - 1}"
        return None

    # A step

    def schedule(self) -> Step:
        """Decide the next step: a decode row for each running stream first, then prompts, first started first.

        Where memory is short, prompts wait first, and then the streams that started last; they keep their slots.
        """
        now = self._clock()
        self._expire(now)
        cached_tokens = self._admit(now)
        feeding = [sequence for sequence in self._running if self._can_go_on(sequence)]
        limit = self._limit.tokens
        sequences = [sequence for sequence in feeding if sequence.unfed == 1][:limit]
        chunks = [sequence.chunk(1) for sequence in sequences]
        share = min(self._prompt_share(len(chunks)), self._step_tokens - len(chunks))
        budget = max(share, MINIMUM_PREFILL_TOKENS)
        budget = min(budget, limit - len(chunks))
        for sequence in feeding:
            if budget and sequence.unfed > 1:
                count = min(sequence.unfed, budget)
                budget -= count
                sequences.append(sequence)
                chunks.append(sequence.chunk(count))
        prefill = sum(
            chunk.length
            for sequence, chunk in zip(sequences, chunks, strict=True)
            if chunk.start < sequence.request.prompt_length
        )
        return Step(sequences, chunks, prefill, cached_tokens, began=now)

    def _prompt_share(self, rows: int) -> int:
        """Most prompt tokens beside so many rows. Who has steps of a whole context wants prompts read in one piece."""
        if self._step_tokens >= self._facts.context_length:
            return self._step_tokens
        return self._prompts.tokens(rows, sum(sequence.ungenerated > 1 for sequence in self._running))

    def launched(self, step: Step) -> None:
        """Take that a step is in flight, so that the next one goes on behind it: see steps.py."""
        for sequence, chunk in zip(step.sequences, step.chunks, strict=True):
            sequence.in_flight = chunk

    def drop(self, step: Step) -> None:
        """Take that a step in flight came to nothing: what it fed is fed again."""
        for sequence, chunk in zip(step.sequences, step.chunks, strict=True):
            self._land(sequence, chunk, is_sound=False)

    def commit(self, step: Step, outcomes: Items[Outcome], seconds: float | None = None) -> None:
        """Take what the runner made of a step. Outcomes of sequences that ended in between are dropped.

        `seconds`: how long the runner took for it; all the time since it was decided if None.
        """
        self._limit.grow()
        if seconds is None:
            seconds = self._clock() - step.began
        self._measure(step, outcomes, seconds)
        for sequence, chunk, outcome in zip(step.sequences, step.chunks, outcomes, strict=True):
            self._land(sequence, chunk, is_sound=True)
            # What is fed behind a void outcome is void as well. Until that has landed, `unfed` is 0, so that no step
            # feeds the sequence.
            if sequence.ended or outcome.is_void or chunk.start != sequence.cached:
                continue
            sequence.cached = chunk.end
            if len(sequence.request.live) > 1:
                self._share_prompt(sequence)
            if sequence.request.scoring is not None:
                self._take_scores(sequence, outcome)
            elif chunk.samples:
                if not outcome.drawn:
                    raise RuntimeError("the runner drew no token for a chunk that samples")
                self._take_tokens(sequence, outcome.drawn)

    def _measure(self, step: Step, outcomes: Items[Outcome], seconds: float) -> None:
        """Learn from what a step took. Not of one with drafts, which says nothing of what feeding its rows takes."""
        if any(outcome.drafted for outcome in outcomes):
            return
        rows = sum(chunk.length == 1 for chunk in step.chunks)
        prompt = sum(chunk.length for chunk in step.chunks) - rows
        self._prompts.measure(rows, prompt, seconds)
        if not prompt:
            self._fastest_step = seconds if self._fastest_step is None else min(self._fastest_step, seconds)

    def run_smaller(self, step: Step) -> int:
        """Take that a step ran out of memory: the next ones are smaller. Gives the number of sequences that ended.

        None, but for the only one of a step that fed a single token, again and again: it ends as FAILED.
        """
        if self._limit.shrink(sum(chunk.length for chunk in step.chunks)):
            return 0
        if step.sequences[0].ended:  # while its step was in flight
            return 0
        self._finish(step.sequences[0], Finish.FAILED)
        return 1

    def _expire(self, now: float) -> None:
        """End what is over its time, and what waits for nothing: its first token cannot come in time any more."""
        if now + self._least_seconds(self._facts.context_length) < self._next_deadline:
            return
        requests = self._requests.values()
        for request in [request for request in requests if request.deadline <= now + self._least_wait(request)]:
            for sequence in reversed(request.live.copy()):
                self._finish(sequence, Finish.DEADLINE)
        self._next_deadline = min((request.deadline for request in requests), default=math.inf)

    def _least_wait(self, request: Request) -> float:
        """Seconds until a request's first token, or its scores, if it got its slots now and nothing else ran.

        It errs to the low side, so that nothing ends that could have been served: no step is faster than the fastest,
        which fed the least, and a prompt may turn out to be cached. None for what holds its slots: it may be cut short
        by its deadline, but what is streamed until then is of use.
        """
        if request.live[0].slot is not None:
            return 0.0
        return self._least_seconds(1 if request.cache_salt else request.prompt_length)

    def _least_seconds(self, tokens: int) -> float:
        """Less time does it not take to feed so many tokens."""
        return -(-tokens // self._step_tokens) * (self._fastest_step or 0.0)

    def _can_go_on(self, sequence: Sequence) -> bool:
        """Whether it may be fed: not while it waits for its leader, nor where a step in flight draws its last token."""
        if not sequence.is_drawing:
            return not sequence.follows
        return sequence.ungenerated > 1 and len(sequence.tokens) + 1 < self._facts.context_length

    def _admit(self, now: float) -> int:
        """Give slots to waiting requests, all candidates at once, until the next one in turn does not fit.

        Returns how many tokens of their prompts are cached already.
        """
        cached_tokens = 0
        while self._slots.free and (request := self._queue.next()) is not None:
            if len(request.live) > self._slots.free:
                self._queue.hold(self._slots.free)
                break  # the turn is kept, so that its slots come together
            self._queue.admit(request)
            self._running += request.live
            leader = request.live[0]
            for sequence in request.live:
                sequence.follows = sequence is not leader
                self._slots.take(sequence)
            cached_tokens += leader.cached
            started = Started(request=request.id, queue_seconds=now - request.arrived, cached_tokens=leader.cached)
            self._events[request.front_end].append(started)
            self._share_prompt(leader)
        return cached_tokens

    def _share_prompt(self, leader: Sequence) -> None:
        """Let the followers go once all of the prompt but its last token is cached."""
        shared = leader.request.prompt_length - 1
        if leader.cached >= shared:
            for sequence in leader.request.live:
                if sequence.follows:
                    self._slots.share(leader, sequence, shared)

    def _take_tokens(self, sequence: Sequence, drawn: Items[Drawn]) -> None:
        """Add drawn tokens to their sequence, up to one that ends it. All but the last were fed as drafts."""
        for token in drawn[:-1]:
            self._take_token(sequence, token)
            if sequence.ended:
                return
            sequence.cached += 1
        self._take_token(sequence, drawn[-1])

    def _take_token(self, sequence: Sequence, drawn: Drawn) -> None:
        """Add a drawn token to its sequence; see whether it is the last."""
        request = sequence.request
        assert request.sampling is not None
        if drawn.id in request.stops:
            self._finish(sequence, Finish.STOP)
            return
        sequence.tokens.append(drawn.id)
        self._events[request.front_end].append(
            Token(
                request=request.id,
                candidate=sequence.candidate,
                id=drawn.id,
                logprob=drawn.logprob,
                top=drawn.top,
            )
        )
        if len(sequence.tokens) - request.prompt_length >= request.sampling.max_output_tokens:
            self._finish(sequence, Finish.MAX_OUTPUT_TOKENS)
        elif len(sequence.tokens) >= self._facts.context_length:
            self._finish(sequence, Finish.CONTEXT_LENGTH)

    def _take_scores(self, sequence: Sequence, outcome: Outcome) -> None:
        """Add a chunk's scores to its request; answer when they are complete."""
        request = sequence.request
        assert request.scoring is not None
        request.scoring.logprobs += outcome.logprobs
        request.scoring.top += outcome.top
        if not sequence.unfed:
            self._end(sequence)
            scored = Scored(request=request.id, logprobs=request.scoring.logprobs, top=request.scoring.top)
            self._events[request.front_end].append(scored)

    def _finish(self, sequence: Sequence, finish: Finish) -> None:
        self._end(sequence, is_sound=finish is not Finish.FAILED)
        request = sequence.request
        finished = Finished(request=request.id, candidate=sequence.candidate, finish=finish)
        self._events[request.front_end].append(finished)

    def _end(self, sequence: Sequence, *, is_sound: bool = True) -> None:
        """The one way out: hand a half-read prompt to the next candidate, free the slot, forget the rest.

        Of a slot that is not sound nobody gets anything: the step that failed may have spoiled it.
        """
        request = sequence.request
        sequence.ended = True
        request.live.remove(sequence)
        if request not in self._queue:
            self._running.remove(sequence)
            self._queue.give_back(request.identity, sequence.ungenerated)
        elif not request.live:
            self._queue.remove(request)
        if sequence.slot is not None:
            heir = next((other for other in request.live if other.follows), None)
            if heir is not None and not sequence.follows:
                self._slots.share(sequence, heir, sequence.cached if is_sound else 0)
            if sequence.in_flight is None:
                self._slots.release(sequence, is_sound=is_sound)
            else:
                self._landing.add(sequence)
        if not request.live:
            del self._requests[request.key]

    def _land(self, sequence: Sequence, chunk: Chunk, *, is_sound: bool) -> None:
        """Take that a step in flight is over. A slot that it fed is free now, if its sequence has ended meanwhile."""
        if sequence.in_flight is chunk:
            sequence.in_flight = None
            if sequence in self._landing:
                self._landing.remove(sequence)
                self._slots.release(sequence, is_sound=is_sound)

    # Invariants

    def check(self) -> None:
        """Raise AssertionError if the books do not agree. Between two steps only."""
        self._slots.check()
        assert set(self._slots.owners) == {*self._running, *self._landing}, "slots and running sequences differ"
        assert all(sequence.ended and sequence.in_flight for sequence in self._landing), "a slot is freed too late"
        self._queue.check()
        for request in self._requests.values():
            assert request.live, "a request without sequences is kept"
            for sequence in request.live:
                assert (sequence.slot is None) == (request in self._queue), "a queued sequence holds a slot"
                assert 0 <= sequence.cached <= len(sequence.tokens) <= self._facts.context_length
            leaders = sum(not sequence.follows for sequence in request.live)
            assert leaders >= 1, "a prompt is read by nobody"
        live = sum(len(request.live) for request in self._requests.values() if request not in self._queue)
        assert live == len(self._running), "a sequence runs for no request"
