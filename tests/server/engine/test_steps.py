"""Steps that overlap give what plain ones give, only later: the same tokens, the same ends, nothing behind an end."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from late_runner import POISON, LateRunner
from overlapped_storm import OverlappedStorm
from schedule_storm import script
from scripted_runner import EOS, ScriptedRunner, count_up

from sluicegate.server.engine.errors import StepError, StepOutOfMemory
from sluicegate.server.engine.messages import Event, Finish, Finished, Sampling, Score, Scored, Submit, Token
from sluicegate.server.engine.scheduler import Scheduler
from sluicegate.server.engine.step_limit import LONE_FAILURES
from sluicegate.server.engine.steps import OverlappedSteps, PlainSteps, Steps

FRONT = "front"
PROMPT = [5, 6, 7]
STEP_TOKENS = 20


class Overlapped:
    """A scheduler, a runner whose results come late, and the steps that overlap over both."""

    def __init__(self, runner: LateRunner | None = None) -> None:
        self.runner = runner or LateRunner()
        self.now = 0.0
        self.scheduler = Scheduler(self.runner, step_tokens=STEP_TOKENS, clock=lambda: self.now)
        self.steps = OverlappedSteps(self.scheduler, self.runner)
        self.events: list[Event] = []

    def submit(self, message: Submit | Score) -> None:
        self.scheduler.submit(FRONT, message)

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.steps.turn()
            self.events += self.scheduler.take_events().get(FRONT, [])

    def finish(self) -> None:
        while self.steps.has_work:
            self.turns(1)
        self.scheduler.check()
        assert self.runner.open_slots == {}
        assert self.runner.in_flight == []

    def tokens(self, request: str = "a", candidate: int = 0) -> list[int]:
        tokens = [event for event in self.events if isinstance(event, Token) and event.request == request]
        return [token.id for token in tokens if token.candidate == candidate]

    def ends(self, request: str = "a") -> list[Finish]:
        return [event.finish for event in self.events if isinstance(event, Finished) and event.request == request]


def submission(request: str = "a", prompt: list[int] = PROMPT, tokens: int = 5, candidates: int = 1) -> Submit:
    sampling = Sampling(max_output_tokens=tokens)
    return Submit(request=request, model="m", prompt=prompt, sampling=sampling, candidates=candidates)


def expected(count: int, candidate: int = 0) -> list[int]:
    return [count_up(candidate, len(PROMPT) + index, tuple(PROMPT)) for index in range(count)]


# The order of things


def test_next_step_is_launched_before_the_last_ones_outcome_is_taken() -> None:
    overlapped = Overlapped()
    overlapped.submit(submission())

    overlapped.turns(1)
    assert (overlapped.runner.waited, len(overlapped.runner.in_flight)) == (0, 1)
    overlapped.turns(1)

    assert (overlapped.runner.waited, len(overlapped.runner.in_flight)) == (1, 1)
    assert overlapped.tokens() == expected(1)


def test_stream_gets_a_token_in_each_turn_but_the_first() -> None:
    overlapped = Overlapped()
    overlapped.submit(submission(tokens=9))

    overlapped.turns(10)

    assert overlapped.tokens() == expected(9)
    assert not overlapped.steps.has_work


def test_a_step_that_only_the_host_can_draw_for_is_waited_for() -> None:
    overlapped = Overlapped(LateRunner(hosts_draw=frozenset({PROMPT[0]})))
    overlapped.submit(submission(tokens=3))

    overlapped.finish()

    assert overlapped.tokens() == expected(3)
    assert not any(chunk.awaits for step in overlapped.runner.steps for chunk in step)
    assert len(overlapped.runner.steps) == 3


def test_seconds_are_those_that_the_device_took() -> None:
    overlapped = Overlapped()
    overlapped.submit(submission(tokens=1))

    nothing, taken = overlapped.steps.turn(), overlapped.steps.turn()

    assert (nothing.step.chunks, nothing.seconds) == ((), 0.0)
    assert (len(taken.step.chunks), taken.seconds) == (1, 0.5)


# Ends


def test_nothing_is_told_behind_a_stop_and_one_token_is_drawn_in_vain() -> None:
    overlapped = Overlapped(LateRunner(script=lambda _candidate, position, _prompt: EOS if position >= 6 else 7))
    overlapped.submit(submission(tokens=20))

    overlapped.finish()

    assert overlapped.tokens() == [7] * 3
    assert overlapped.ends() == [Finish.STOP]
    assert len(overlapped.runner.steps) == 5


@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_no_token_is_drawn_in_vain_where_the_last_is_known_ahead(tokens: int) -> None:
    overlapped = Overlapped()
    overlapped.submit(submission(tokens=tokens))

    overlapped.finish()

    assert overlapped.tokens() == expected(tokens)
    assert overlapped.ends() == [Finish.MAX_OUTPUT_TOKENS]
    assert len(overlapped.runner.steps) == tokens


def test_context_is_filled_and_not_overrun() -> None:
    overlapped = Overlapped(LateRunner(context_length=8))
    overlapped.submit(submission(tokens=50))

    overlapped.finish()

    assert overlapped.tokens() == expected(5)
    assert overlapped.ends() == [Finish.CONTEXT_LENGTH]
    assert len(overlapped.runner.steps) == 5


def test_slot_of_an_aborted_sequence_is_free_when_the_step_that_feeds_it_is_over() -> None:
    overlapped = Overlapped(LateRunner(slots=1))
    overlapped.submit(submission(tokens=20))
    overlapped.turns(3)
    overlapped.submit(submission("b", tokens=2))

    overlapped.scheduler.abort(FRONT, "a")
    assert overlapped.runner.open_slots != {}
    overlapped.finish()

    assert overlapped.ends("a") == [Finish.ABORTED]
    assert overlapped.tokens("b") == expected(2)


def test_candidates_share_a_prompt_that_is_read_in_flight() -> None:
    overlapped = Overlapped()
    overlapped.submit(submission(prompt=[*PROMPT, *range(10, 50)], tokens=4, candidates=3))

    overlapped.finish()

    prompt = (*PROMPT, *range(10, 50))
    for candidate in range(3):
        drawn = [count_up(candidate, len(prompt) + index, prompt) for index in range(4)]
        assert overlapped.tokens(candidate=candidate) == drawn
    assert len(overlapped.runner.copies) == 2


# Void outcomes and failures


def test_void_token_is_drawn_again_and_what_was_drawn_behind_it_is_never_told() -> None:
    overlapped = Overlapped(LateRunner(chance=random.Random(3), void_rate=0.3))
    overlapped.submit(submission(tokens=30))

    overlapped.finish()

    assert overlapped.runner.voids > 3
    assert overlapped.tokens() == expected(30)
    assert POISON not in overlapped.tokens()


def test_step_that_fails_takes_the_one_behind_it_along_and_the_sound_go_on() -> None:
    overlapped = Overlapped()
    overlapped.submit(submission("a", tokens=8))
    overlapped.submit(submission("b", tokens=8))
    overlapped.turns(3)
    overlapped.runner.late_failures = [StepError("b's", slots={1})]
    overlapped.turns(1)

    with pytest.raises(StepError):
        overlapped.turns(1)
    assert overlapped.runner.in_flight == []
    overlapped.scheduler.fail_running({1})
    overlapped.finish()

    assert overlapped.tokens("a") == expected(8)
    assert overlapped.ends("b") == [Finish.FAILED]
    assert overlapped.tokens("b") == expected(len(overlapped.tokens("b")))


def test_fault_of_a_sequence_that_has_ended_meanwhile_ends_no_other() -> None:
    overlapped = Overlapped()
    overlapped.submit(submission("a", tokens=8))
    overlapped.submit(submission("b", tokens=8))
    overlapped.turns(3)
    overlapped.runner.late_failures = [StepError("b's", slots={1})]
    overlapped.turns(1)
    overlapped.scheduler.abort(FRONT, "b")

    overlapped.finish()

    assert overlapped.tokens("a") == expected(8)
    assert overlapped.ends("a") == [Finish.MAX_OUTPUT_TOKENS]


@pytest.mark.parametrize("is_late", [False, True], ids=["at the launch", "with the result"])
def test_failure_of_a_whole_step_can_be_followed_by_others(is_late: bool) -> None:
    overlapped = Overlapped()
    overlapped.submit(submission(tokens=8))
    overlapped.turns(2)
    (overlapped.runner.late_failures if is_late else overlapped.runner.failures).append(RuntimeError("device"))

    with pytest.raises(RuntimeError):
        overlapped.turns(2)
    overlapped.finish()

    assert overlapped.tokens() == expected(8)


def test_what_is_in_flight_when_the_next_step_cannot_be_launched_is_still_taken() -> None:
    overlapped = Overlapped()
    overlapped.submit(submission(tokens=8))
    overlapped.turns(2)
    overlapped.runner.failures.append(RuntimeError("device"))
    with pytest.raises(RuntimeError):
        overlapped.turns(1)

    overlapped.scheduler.fail_running()
    assert overlapped.runner.open_slots != {}
    overlapped.finish()

    assert overlapped.ends() == [Finish.FAILED]


@pytest.mark.parametrize("is_late", [False, True], ids=["at the launch", "with the result"])
def test_step_without_memory_is_launched_again_in_smaller_ones(is_late: bool) -> None:
    overlapped = Overlapped()
    overlapped.submit(submission("a", tokens=8))
    overlapped.submit(submission("b", tokens=8))
    overlapped.turns(2)
    (overlapped.runner.late_failures if is_late else overlapped.runner.failures).append(StepOutOfMemory("no memory"))

    overlapped.finish()

    assert overlapped.scheduler.is_short_of_memory
    assert [overlapped.tokens(name) for name in "ab"] == [expected(8)] * 2


def test_what_is_computed_is_told_though_no_further_step_finds_memory() -> None:
    overlapped = Overlapped()
    overlapped.submit(submission(tokens=8))
    overlapped.turns(3)
    told, computed = len(overlapped.tokens()), len(overlapped.runner.steps)
    overlapped.runner.failures += [StepOutOfMemory("no memory")] * LONE_FAILURES

    overlapped.finish()

    assert overlapped.ends() == [Finish.FAILED]
    assert told < computed
    assert overlapped.tokens() == expected(computed)


def test_sequence_that_has_ended_is_not_ended_again_for_want_of_memory() -> None:
    overlapped = Overlapped()
    overlapped.submit(submission(prompt=[1], tokens=8))
    overlapped.runner.late_failures = [StepOutOfMemory("no memory")] * (2 * LONE_FAILURES - 1)  # two are in flight
    while len(overlapped.runner.late_failures) > 0:
        overlapped.turns(1)

    overlapped.scheduler.abort(FRONT, "a")
    overlapped.finish()

    assert overlapped.ends() == [Finish.ABORTED]


# Everything at once


Told = dict[tuple[str, int], tuple[object, ...]]


def served(messages: list[Submit | Score], build: Callable[[], tuple[Scheduler, Steps]]) -> Told:
    """What each candidate was told, when the requests come in turn by turn."""
    scheduler, steps = build()
    told: dict[tuple[str, int], list[object]] = {}
    waiting = list(messages)
    while waiting or steps.has_work:
        if waiting:
            scheduler.submit(FRONT, waiting.pop())
        steps.turn()
        for event in scheduler.take_events().get(FRONT, []):
            match event:
                case Token():
                    told.setdefault((event.request, event.candidate), []).append(event.id)
                case Finished():
                    told.setdefault((event.request, event.candidate), []).append(event.finish)
                case Scored():
                    told.setdefault((event.request, 0), []).append(tuple(event.logprobs))
    return {key: tuple(events) for key, events in told.items()}


@pytest.mark.parametrize("seed", range(5))
def test_requests_at_random_are_told_what_plain_steps_tell_them(seed: int) -> None:
    rng = random.Random(seed)
    messages: list[Submit | Score] = []
    for number in range(60):
        prompt = [rng.randrange(1, 900) for _ in range(rng.choice([1, 3, 30, 60]))]
        if rng.random() < 0.5:
            prompt[: len(prompt) // 2] = range(9, 9 + len(prompt) // 2)
        if rng.random() < 0.2:
            messages.append(Score(request=str(number), model="m", ids=[*prompt, 1]))
            continue
        sampling = Sampling(max_output_tokens=rng.choice([1, 2, 9, 100]), stop_token_ids=(rng.randrange(900),))
        messages.append(
            Submit(
                request=str(number),
                model="m",
                prompt=prompt,
                sampling=sampling,
                candidates=rng.choice([1, 1, 2, 4]),
                cache_salt=rng.choice(["", "lab"]),
            )
        )

    def plain() -> tuple[Scheduler, Steps]:
        runner = ScriptedRunner(slots=4, context_length=96, script=script)
        scheduler = Scheduler(runner, step_tokens=STEP_TOKENS, clock=lambda: 0.0)
        return scheduler, PlainSteps(scheduler, runner, lambda: 0.0)

    def overlapped() -> tuple[Scheduler, Steps]:
        runner = LateRunner(slots=4, context_length=96, script=script, chance=rng, void_rate=0.05)
        scheduler = Scheduler(runner, step_tokens=STEP_TOKENS, clock=lambda: 0.0)
        return scheduler, OverlappedSteps(scheduler, runner)

    assert served(messages, overlapped) == served(messages, plain)


@pytest.mark.parametrize("seed", range(4))
def test_every_sequence_ends_exactly_once_with_the_right_tokens_whatever_comes_late(seed: int) -> None:
    storm = OverlappedStorm(seed)

    storm.rage(5_000)

    assert set(storm.tally.finishes) == {None, *Finish}
    assert storm.tally.cached_tokens > 400
    assert storm.tally.steps_out_of_memory > 0
    assert storm.late.voids > 20
    assert storm.failed_steps > 5
    assert storm.overlapped_turns > 1_000
