from __future__ import annotations

from collections import defaultdict
from collections.abc import MutableMapping, Sequence
from itertools import count
from typing import Any

import pytest
from scripted_drafts import (
    Always,
    AtRandom,
    Guess,
    ScriptedDrafter,
    ScriptedDraftModel,
    at_random,
    right,
    right_until,
    wrong,
)
from scripted_runner import EOS, Script, ScriptedRunner, count_up

from sluicegate.server.engine.drafters import Drafter, DraftModel, PromptLookup, Wish
from sluicegate.server.engine.errors import StepError, StepOutOfMemory
from sluicegate.server.engine.lookahead import Lookahead
from sluicegate.server.engine.messages import Event, Finish, Finished, Sampling, Score, Scored, Started, Submit, Token
from sluicegate.server.engine.runner import Chunk, Outcome, Runner
from sluicegate.server.engine.scheduler import Scheduler
from sluicegate.server.engine.speculation import SpeculativeRunner

FRONT = "front"
CONTEXT = 64


def stops_now_and_then(candidate: int, position: int, prompt: tuple[int, ...]) -> int:
    """Ends a text at a place that depends on prompt and candidate; until then it repeats itself."""
    produced = position - len(prompt)
    return EOS if produced == (prompt[0] + 7 * candidate) % 40 else 1 + (prompt[0] + produced) % 5


def drafter_of(kind: str, script: Script, runner: ScriptedRunner) -> Drafter:
    guesses: dict[str, Guess] = {
        "right": right,
        "wrong": wrong,
        "half right": right_until(2),
        "random": at_random(1, 0.7),
    }
    if kind == "prompt look-up":
        return PromptLookup()
    if kind == "model":
        return DraftModel(ScriptedDraftModel(runner.facts, script, at_random(2, 0.8)), step_tokens=8)
    return ScriptedDrafter(script, guesses[kind])


KINDS = ("right", "wrong", "half right", "random", "prompt look-up", "model")


def speculative(runner: Runner, drafter: Drafter, lookahead: Lookahead | None = None) -> SpeculativeRunner:
    """Where no clock goes and no other lookahead is given, with drafts of any length, whether they pay or not."""
    return SpeculativeRunner(runner, drafter, lookahead or AtRandom(4), lambda: 0.0)


def play(
    runner: Runner, messages: Sequence[Submit | Score], step_tokens: int = 16
) -> dict[tuple[str, int], list[Event]]:
    """All events of these requests, by request and candidate: one more comes in every second step."""
    scheduler = Scheduler(runner, step_tokens=step_tokens, clock=lambda: 0.0)
    waiting = list(reversed(messages))
    events: defaultdict[tuple[str, int], list[Event]] = defaultdict(list)
    for step in count():
        if waiting and step % 2 == 0:
            scheduler.submit(FRONT, waiting.pop())
        if not waiting and not scheduler.has_work:
            return dict(events)
        work = scheduler.schedule()
        if work.chunks:
            scheduler.commit(work, runner.run(work.chunks))
        for event in scheduler.take_events().get(FRONT, []):
            assert isinstance(event, Started | Token | Finished | Scored)
            events[event.request, getattr(event, "candidate", 0)].append(event)
        scheduler.check()
    raise AssertionError


def requests() -> list[Submit | Score]:
    """All kinds of ends: stops, limits of every size, the context; candidates, log-probabilities, scores between."""
    messages: list[Submit | Score] = []
    for number in range(60):
        sampling = Sampling(
            max_output_tokens=(1, 2, 3, 7, 30, 500)[number % 6],
            ignore_eos=number % 3 == 0,
            stop_token_ids=(4,) if number % 7 == 0 else (),
            logprobs=(None, 0, 2)[number % 3],
        )
        prompt = [1 + number, *[3 + number % 4] * (1 + number % 11)]
        messages.append(
            Submit(request=str(number), model="m", prompt=prompt, sampling=sampling, candidates=1 + number % 3)
        )
        if number % 9 == 0:
            messages.append(Score(request=f"score {number}", model="m", ids=[1, 2, 3, 4 + number]))
    return messages


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 4, 9])
def test_events_are_those_without_speculation(kind: str, tokens: int) -> None:
    plain, drafting = (ScriptedRunner(context_length=CONTEXT, script=stops_now_and_then) for _ in range(2))
    drafter = drafter_of(kind, stops_now_and_then, drafting)

    events = play(speculative(drafting, drafter, AtRandom(tokens)), requests())

    assert events == play(plain, requests())
    assert drafting.open_slots == {}
    assert any(chunk.drafted for step in drafting.steps for chunk in step)
    if kind == "right":
        assert len(drafting.steps) < len(plain.steps)


def generation(request: str, prompt: list[int], max_output_tokens: int = 40) -> Submit:
    return Submit(request=request, model="m", prompt=prompt, sampling=Sampling(max_output_tokens=max_output_tokens))


def test_no_more_is_drafted_than_can_be_accepted() -> None:
    runner = ScriptedRunner(context_length=CONTEXT)
    drafter = ScriptedDrafter(count_up)
    messages = [generation("limit", [5, 6], 42), generation("context", [7] * (CONTEXT - 40), 500)]

    play(speculative(runner, drafter, Always(4)), messages)

    ends = {(chunk.slot, chunk.start + len(chunk.ids)) for step in runner.steps for chunk in step if chunk.drafted}
    assert max(end for slot, end in ends if slot == 0) == 2 + 42 - 1
    assert max(end for slot, end in ends if slot == 1) == CONTEXT - 1


def test_a_step_that_reads_a_prompt_has_no_drafts() -> None:
    runner = ScriptedRunner(context_length=CONTEXT)
    messages = [generation(str(number), [5] * (1 + number)) for number in range(40)]

    play(speculative(runner, ScriptedDrafter(count_up)), messages, step_tokens=8)

    reading = [step for step in runner.steps if any(len(chunk.given) > 1 for chunk in step)]
    assert len(reading) > 40
    assert not any(chunk.drafted for step in reading for chunk in step)


def test_scores_are_no_business_of_a_drafter() -> None:
    runner, drafter = ScriptedRunner(), ScriptedDrafter(count_up)
    speculator = speculative(runner, drafter)

    speculator.open(0, None, 0, [5, 6])
    speculator.open(1, Sampling(), 0, [5, 6])

    assert drafter.open_slots == {1}
    speculator.close(0)
    speculator.close(1)
    assert drafter.open_slots == set()
    assert runner.open_slots == {}


def test_a_sequence_that_the_drafter_leaves_out_gets_no_drafts() -> None:
    runner, drafter = ScriptedRunner(), ScriptedDrafter(count_up)
    drafter.silent.add(0)

    play(speculative(runner, drafter), [generation("a", [5, 6]), generation("b", [7, 8])])

    drafted = {chunk.slot for step in runner.steps for chunk in step if chunk.drafted}
    assert drafted == {1}


class Failing(ScriptedDrafter):
    """Fails in one of its methods, from the third call on."""

    def __init__(self, method: str) -> None:
        super().__init__(count_up)
        self.calls = 0
        self._method = method

    def open(self, slot: int, sampling: Sampling, candidate: int, prompt: Sequence[int]) -> None:
        self._fail("open")
        super().open(slot, sampling, candidate, prompt)

    def close(self, slot: int) -> None:
        self._fail("close")
        super().close(slot)

    def propose(self, wishes: Sequence[Wish]) -> dict[int, list[int]]:
        self._fail("propose")
        return super().propose(wishes)

    def _fail(self, method: str) -> None:
        if method == self._method:
            self.calls += 1
            if self.calls >= 3:
                raise RuntimeError("the draft model is broken")


@pytest.mark.parametrize("method", ["open", "close", "propose"])
def test_a_drafter_that_fails_is_told_of_and_asked_no_more_and_no_text_changes(
    method: str, logs: list[MutableMapping[str, Any]]
) -> None:
    drafter, drafting = Failing(method), ScriptedRunner()
    messages = [generation(str(number), [5, number]) for number in range(8)]

    events = play(speculative(drafting, drafter), messages)

    assert events == play(ScriptedRunner(), messages)
    assert drafter.calls == 3
    assert [entry["event"] for entry in logs] == ["drafter_failed"]
    assert drafting.open_slots == {}


def test_a_failed_step_ends_its_sequences_and_the_others_go_on_as_without_drafts() -> None:
    runner, drafter = ScriptedRunner(), ScriptedDrafter(count_up, at_random(3, 0.7))
    drafting = speculative(runner, drafter)
    scheduler = Scheduler(drafting, step_tokens=16, clock=lambda: 0.0)
    for name in ("fails", "stays"):
        scheduler.submit(FRONT, generation(name, [5, 6]))
    events: list[Event] = []
    for step in count():
        if not scheduler.has_work:
            break
        work = scheduler.schedule()
        if step == 12:
            runner.failures.append(StepError("NaN", slots=[0]))
        try:
            scheduler.commit(work, drafting.run(work.chunks))
        except StepError as error:
            scheduler.fail_running(error.slots)
        events += scheduler.take_events().get(FRONT, [])

    stayed = [event for event in events if isinstance(event, Started | Token | Finished) and event.request == "stays"]
    assert stayed == play(ScriptedRunner(), [generation("stays", [5, 6])])["stays", 0]
    assert Finished(request="fails", candidate=0, finish=Finish.FAILED) in events


def test_a_step_for_whose_drafts_there_is_no_memory_is_run_without_them() -> None:
    runner = ScriptedRunner()
    runner.memory = 4
    messages = [generation("a", [5, 6]), generation("b", [7, 8])]

    events = play(speculative(runner, ScriptedDrafter(count_up)), messages)

    assert events == play(ScriptedRunner(), messages)
    assert any(sum(len(chunk.ids) for chunk in step) > 4 for step in runner.steps)
    assert any(chunk.drafted for step in runner.steps for chunk in step if sum(len(each.ids) for each in step) <= 4)


def test_a_step_for_which_there_is_no_memory_in_any_case_says_so() -> None:
    runner = ScriptedRunner()
    speculator = speculative(runner, ScriptedDrafter(count_up))
    speculator.open(0, Sampling(), 0, [5])
    runner.memory = 0

    with pytest.raises(StepOutOfMemory):
        speculator.run([Chunk(0, 0, [5], samples=True)])


def test_a_drafter_without_memory_is_asked_again(logs: list[MutableMapping[str, Any]]) -> None:
    runner = ScriptedRunner()
    draft = ScriptedDraftModel(runner.facts, count_up)
    draft.failures += [StepOutOfMemory("no memory")] * 3
    messages = [generation("a", [5, 6]), generation("b", [7, 8])]

    events = play(speculative(runner, DraftModel(draft, step_tokens=8)), messages)

    assert events == play(ScriptedRunner(), messages)
    assert draft.failures == []
    assert any(chunk.drafted for step in runner.steps for chunk in step)
    assert logs == []


# How many


class Timed(ScriptedRunner):
    """Its steps take seconds by their rows: up to 8 hardly more than one, from there on each as much as the next."""

    def __init__(self) -> None:
        super().__init__(slots=8, context_length=400)
        self.now = 0.0

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        rows = sum(len(chunk.ids) for chunk in chunks)
        self.now += 1 + 0.02 * rows if rows <= 8 else rows / 7
        return super().run(chunks)


class TimedDrafter(ScriptedDrafter):
    """Its drafts take a fifth of a second each, for however many sequences."""

    def __init__(self, runner: Timed, guess: Guess = right) -> None:
        super().__init__(count_up, guess)
        self._runner = runner

    def propose(self, wishes: Sequence[Wish]) -> dict[int, list[int]]:
        self._runner.now += 0.2 * max(wish.count for wish in wishes)
        return super().propose(wishes)


def drafts_of_steps(runner: ScriptedRunner) -> list[int]:
    """Of each step, the most that one sequence had."""
    return [max(chunk.drafted for chunk in step) for step in runner.steps]


@pytest.mark.parametrize(
    ("streams", "guess", "usual"),
    [
        (1, right, 4),
        (1, wrong, 0),
        (2, right, 3),  # two sequences with three drafts each are eight rows
        (8, right, 0),  # sixteen rows take twice as long as eight, and the drafts come on top of that
    ],
)
def test_drafts_are_made_where_they_pay_and_not_where_they_do_not(streams: int, guess: Guess, usual: int) -> None:
    runner = Timed()
    speculator = SpeculativeRunner(runner, TimedDrafter(runner, guess), Lookahead(4), lambda: runner.now)

    play(speculator, [generation(str(number), [5, number], 300) for number in range(streams)])

    chosen = drafts_of_steps(runner)[20:60]
    assert chosen.count(usual) == len(chosen)


def test_drafts_stop_when_more_come_and_go_on_when_these_are_gone() -> None:
    runner = Timed()
    speculator = SpeculativeRunner(runner, TimedDrafter(runner), Lookahead(4), lambda: runner.now)
    scheduler = Scheduler(speculator, step_tokens=64, clock=lambda: runner.now)

    def steps(count: int) -> list[int]:
        for _ in range(count):
            step = scheduler.schedule()
            scheduler.commit(step, speculator.run(step.chunks))
        return drafts_of_steps(runner)[-count:]

    scheduler.submit(FRONT, generation("stays", [5, 6], 390))
    steps(30)
    alone = steps(10)
    for number in range(7):
        scheduler.submit(FRONT, generation(str(number), [7, number], 60))
    steps(20)
    in_company = steps(30)
    steps(20)
    alone_again = steps(5)

    assert (alone, in_company, alone_again) == ([4] * 10, [0] * 30, [4] * 5)


class Noting(Always):
    """Keeps what it is told."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.slots: set[int] = set()
        self.steps: list[tuple[int, float]] = []
        self.drafting: list[tuple[int, float]] = []

    def open(self, slot: int) -> None:
        super().open(slot)
        self.slots.add(slot)

    def close(self, slot: int) -> None:
        super().close(slot)
        self.slots.remove(slot)

    def note_step(self, rows: int, seconds: float) -> None:
        self.steps.append((rows, round(seconds, 6)))

    def note_drafting(self, sequences: int, seconds: float) -> None:
        self.drafting.append((sequences, round(seconds, 6)))


def test_steps_are_timed_by_their_rows_and_drafting_by_the_draft() -> None:
    runner, lookahead = Timed(), Noting(3)

    play(
        SpeculativeRunner(runner, TimedDrafter(runner), lookahead, lambda: runner.now),
        [generation("a", [5, 6], 40), generation("b", [5, 7], 40)],
    )

    assert {(1, 0.2), (2, 0.2)} == set(lookahead.drafting)
    assert {(4, 1.08), (8, 1.16)} < set(lookahead.steps)
    assert lookahead.slots == set()


def test_a_drafter_that_reads_texts_first_is_not_timed() -> None:
    runner, lookahead = Timed(), Noting(3)
    drafter = TimedDrafter(runner)
    drafter.silent.add(1)

    play(
        SpeculativeRunner(runner, drafter, lookahead, lambda: runner.now),
        [generation("a", [5, 6], 300), generation("b", [5, 7], 10)],
    )

    assert {sequences for sequences, _ in lookahead.drafting} == {1}
    assert (5, 1.1) in lookahead.steps  # one with three drafts, the other with none


def test_a_drafter_without_memory_is_not_asked_in_every_step() -> None:
    class WithoutMemory(TimedDrafter):
        def propose(self, wishes: Sequence[Wish]) -> dict[int, list[int]]:
            super().propose(wishes)
            raise StepOutOfMemory("no memory")

    runner = Timed()
    drafter = WithoutMemory(runner)

    play(
        SpeculativeRunner(runner, drafter, Lookahead(4), lambda: runner.now),
        [generation("a", [5, 6], 120)],
    )

    assert len(drafter.wishes) == 1
    assert len(runner.steps) == 120


def test_drafts_for_which_there_is_no_memory_are_not_tried_in_every_step() -> None:
    runner = Timed()
    runner.memory = 3
    speculator = SpeculativeRunner(runner, TimedDrafter(runner), Lookahead(4), lambda: runner.now)

    play(speculator, [generation("a", [5, 6], 120)])

    refused = [step for step in runner.steps if sum(len(chunk.ids) for chunk in step) > 3]
    assert 1 <= len(refused) <= 5
    assert drafts_of_steps(runner).count(2) > 30


def test_the_cache_of_the_drafter_is_part_of_the_models() -> None:
    runner, drafter = ScriptedRunner(), ScriptedDrafter(count_up)

    facts = speculative(runner, drafter).facts

    assert facts.cache_bytes == runner.facts.cache_bytes + drafter.cache_bytes
