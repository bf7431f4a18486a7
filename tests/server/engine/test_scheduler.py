from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from scripted_runner import EOS, ScriptedRunner, count_up, target_logprob

from sluicegate.server.engine.errors import StepOutOfMemory
from sluicegate.server.engine.messages import (
    Event,
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
from sluicegate.server.engine.runner import Chunk, Outcome
from sluicegate.server.engine.scheduler import MINIMUM_PREFILL_TOKENS, Scheduler

FRONT = "front"


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A scheduler with its scripted runner; invariants are checked after every step."""

    def __init__(
        self, runner: ScriptedRunner | None = None, *, step_tokens: int = 32, prefix_reuse: bool = True
    ) -> None:
        self.runner = runner or ScriptedRunner()
        self.clock = FakeClock()
        self.scheduler = Scheduler(self.runner, step_tokens=step_tokens, prefix_reuse=prefix_reuse, clock=self.clock)
        self.events: list[Event] = []

    def submit(self, request: str, prompt: Sequence[int], **options: Any) -> None:
        self.scheduler.submit(FRONT, submission(request, prompt, **options))

    def abort(self, request: str, candidate: int | None = None) -> None:
        self.scheduler.abort(FRONT, request, candidate)

    def step(self, seconds: float = 0.0) -> list[Event]:
        step = self.scheduler.schedule()
        try:
            outcomes = self.runner.run(step.chunks) if step.chunks else []
        except StepOutOfMemory:
            self.scheduler.run_smaller(step)
        else:
            self.clock.now += seconds
            self.scheduler.commit(step, outcomes)
        return self.collect()

    def collect(self) -> list[Event]:
        self.scheduler.check()
        events = self.scheduler.take_events().get(FRONT, [])
        self.events += events
        return events

    def run(self, steps: int = 1_000) -> None:
        while self.scheduler.has_work and steps:
            self.step()
            steps -= 1
        self.collect()
        assert not self.scheduler.has_work

    def tokens(self, request: str, candidate: int = 0) -> list[int]:
        return [
            event.id
            for event in self.events
            if isinstance(event, Token) and (event.request, event.candidate) == (request, candidate)
        ]

    def cached(self, request: str) -> int:
        """Tokens of a request's prompt that it did not feed."""
        (started,) = [event for event in self.events if isinstance(event, Started) and event.request == request]
        return started.cached_tokens

    def starts(self) -> list[str]:
        return [event.request for event in self.events if isinstance(event, Started)]

    def finishes(self, request: str) -> dict[int, Finish]:
        found = [event for event in self.events if isinstance(event, Finished) and event.request == request]
        assert len({event.candidate for event in found}) == len(found), "a sequence finished twice"
        return {event.candidate: event.finish for event in found}


def submission(
    request: str,
    prompt: Sequence[int],
    *,
    candidates: int = 1,
    deadline: float | None = None,
    identity: str = "",
    priority: int = 0,
    cache_salt: str = "",
    **sampling: Any,
) -> Submit:
    return Submit(
        request=request,
        model="scripted",
        prompt=list(prompt),
        sampling=Sampling(**sampling),
        candidates=candidates,
        deadline=deadline,
        identity=identity,
        priority=priority,
        cache_salt=cache_salt,
    )


def expected(prompt: Sequence[int], count: int, candidate: int = 0) -> list[int]:
    return [count_up(candidate, len(prompt) + index, tuple(prompt)) for index in range(count)]


def script_of(*tokens: int, prompt_length: int = 3) -> ScriptedRunner:
    return ScriptedRunner(script=lambda _candidate, position, _prompt: tokens[position - prompt_length])


# Finishing


def test_a_request_starts_draws_its_tokens_and_finishes() -> None:
    bench = Bench()
    bench.submit("a", [5, 6, 7], max_output_tokens=3)

    bench.run()

    assert bench.events[0] == Started(request="a", queue_seconds=0.0)
    assert bench.tokens("a") == expected([5, 6, 7], 3)
    assert bench.events[-1] == Finished(request="a", candidate=0, finish=Finish.MAX_OUTPUT_TOKENS)


def test_end_of_text_stops_and_is_not_emitted() -> None:
    bench = Bench(script_of(8, 9, EOS))
    bench.submit("a", [5, 6, 7])

    bench.run()

    assert bench.tokens("a") == [8, 9]
    assert bench.finishes("a") == {0: Finish.STOP}


def test_end_of_text_is_an_ordinary_token_when_it_is_ignored() -> None:
    bench = Bench(script_of(8, EOS, 9))
    bench.submit("a", [5, 6, 7], ignore_eos=True, max_output_tokens=3)

    bench.run()

    assert bench.tokens("a") == [8, EOS, 9]
    assert bench.finishes("a") == {0: Finish.MAX_OUTPUT_TOKENS}


def test_a_stop_token_stops_and_is_not_emitted() -> None:
    bench = Bench(script_of(8, 44))
    bench.submit("a", [5, 6, 7], stop_token_ids=(33, 44))

    bench.run()

    assert bench.tokens("a") == [8]
    assert bench.finishes("a") == {0: Finish.STOP}


def test_a_stop_token_stops_even_when_end_of_text_is_ignored() -> None:
    bench = Bench(script_of(8, EOS))
    bench.submit("a", [5, 6, 7], stop_token_ids=(EOS,), ignore_eos=True)

    bench.run()

    assert bench.finishes("a") == {0: Finish.STOP}


def test_a_full_context_ends_a_sequence() -> None:
    bench = Bench(ScriptedRunner(context_length=8))
    bench.submit("a", [5, 6, 7], max_output_tokens=100)

    bench.run()

    assert len(bench.tokens("a")) == 5
    assert bench.finishes("a") == {0: Finish.CONTEXT_LENGTH}


def test_the_output_limit_wins_where_it_meets_the_context() -> None:
    bench = Bench(ScriptedRunner(context_length=8))
    bench.submit("a", [5, 6, 7], max_output_tokens=5)

    bench.run()

    assert bench.finishes("a") == {0: Finish.MAX_OUTPUT_TOKENS}


def test_log_probabilities_travel_with_their_token() -> None:
    bench = Bench()
    bench.submit("a", [5, 6, 7], max_output_tokens=1, logprobs=2)

    bench.run()

    (token,) = [event for event in bench.events if isinstance(event, Token)]
    assert token.logprob == target_logprob(token.id)
    assert [entry.id for entry in token.top] == [0, 1]


# Several tokens a step


class FarSighted(ScriptedRunner):
    """Guesses right: each step draws up to `ahead` tokens more, as far as the context goes."""

    def __init__(self, *tokens: int, ahead: int = 4, context_length: int = 64) -> None:
        def script(_candidate: int, position: int, prompt: tuple[int, ...]) -> int:
            return tokens[(position - len(prompt)) % len(tokens)]

        super().__init__(script=script, context_length=context_length)
        self._tokens = tokens
        self._ahead = ahead

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        return super().run([self._guess(chunk) for chunk in chunks])

    def _guess(self, chunk: Chunk) -> Chunk:
        produced = len(self.open_slots[chunk.slot].drawn)
        count = min(self._ahead, self.facts.context_length - chunk.start - len(chunk.ids)) if chunk.samples else 0
        drafts = [self._tokens[(produced + index) % len(self._tokens)] for index in range(count)]
        return replace(chunk, ids=[*chunk.ids, *drafts], drafted=count)


def test_all_tokens_of_a_step_are_emitted_in_order_and_fed_once() -> None:
    bench = Bench(FarSighted(8, 9, 10, 11, 12, ahead=2))
    bench.submit("a", [5, 6, 7], max_output_tokens=9)

    tokens = [[event.id for event in bench.step() if isinstance(event, Token)] for _ in range(3)]

    assert tokens == [[8, 9, 10], [11, 12, 8], [9, 10, 11]]
    assert [[(chunk.start, chunk.ids) for chunk in step] for step in bench.runner.steps[1:]] == [
        [(5, [10, 11, 12])],
        [(8, [8, 9, 10])],
    ]


@pytest.mark.parametrize("limit", range(1, 8))
def test_the_output_limit_ends_a_sequence_in_the_midst_of_a_step(limit: int) -> None:
    bench = Bench(FarSighted(8, 9, 10, 11, 12))
    bench.submit("a", [5, 6, 7], max_output_tokens=limit)

    bench.run()

    assert bench.tokens("a") == [8, 9, 10, 11, 12, 8, 9][:limit]
    assert bench.finishes("a") == {0: Finish.MAX_OUTPUT_TOKENS}


@pytest.mark.parametrize("before", range(6))
def test_nothing_behind_a_stop_token_is_emitted(before: int) -> None:
    tokens = [8, 9, 10, 11, 12, 13][:before]
    bench = Bench(FarSighted(*tokens, EOS, 99, 99, 99, 99))
    bench.submit("a", [5, 6, 7], max_output_tokens=20)

    bench.run()

    assert bench.tokens("a") == tokens
    assert bench.finishes("a") == {0: Finish.STOP}


@pytest.mark.parametrize("context", range(5, 12))
def test_a_full_context_ends_a_sequence_in_the_midst_of_a_step(context: int) -> None:
    bench = Bench(FarSighted(8, 9, 10, 11, 12, context_length=context))
    bench.submit("a", [5, 6, 7], max_output_tokens=100)

    bench.run()

    assert len(bench.tokens("a")) == context - 3
    assert bench.finishes("a") == {0: Finish.CONTEXT_LENGTH}


# Batching


def test_sequences_join_and_leave_a_running_batch() -> None:
    bench = Bench()
    bench.submit("a", [5, 6, 7], max_output_tokens=4)
    bench.step()
    bench.submit("b", [15, 16], max_output_tokens=1)

    both = bench.step()

    assert [event.request for event in both if isinstance(event, Token)] == ["a", "b"]
    assert bench.finishes("b") == {0: Finish.MAX_OUTPUT_TOKENS}
    bench.run()
    assert bench.tokens("a") == expected([5, 6, 7], 4)


def test_a_freed_slot_serves_the_next_request() -> None:
    bench = Bench(ScriptedRunner(slots=1))
    bench.submit("a", [5], max_output_tokens=2)
    bench.submit("b", [6], max_output_tokens=2)

    bench.run()

    assert bench.tokens("b") == expected([6], 2)
    assert bench.runner.open_slots == {}


def test_running_streams_decode_while_a_long_prompt_prefills() -> None:
    bench = Bench(ScriptedRunner(context_length=256), step_tokens=32)
    bench.submit("stream", [5], max_output_tokens=50)
    bench.step()
    bench.submit("long", range(1, 201), max_output_tokens=1)

    while not bench.tokens("long"):
        events = bench.step()
        assert next(event.request for event in events if isinstance(event, Token)) == "stream"
        assert sum(len(chunk.ids) for chunk in bench.runner.steps[-1]) <= 1 + 16

    assert len(bench.tokens("stream")) == 1 + -(-200 // 16)


@pytest.mark.parametrize(
    ("streams", "prompt_tokens"), [(0, 64), (1, 32), (32, 32), (40, 24), (60, MINIMUM_PREFILL_TOKENS)]
)
def test_prompts_get_half_of_the_budget_beside_streams_and_all_of_it_without(streams: int, prompt_tokens: int) -> None:
    bench = Bench(ScriptedRunner(slots=61, context_length=256), step_tokens=64)
    for number in range(streams):
        bench.submit(str(number), [5], max_output_tokens=20)
    bench.submit("long", range(1, 201), max_output_tokens=1)

    bench.step()

    assert sizes(bench) == [[1] * streams + [prompt_tokens]]


def test_prompts_get_what_streams_can_spare_by_what_steps_have_taken() -> None:
    bench = Bench(ScriptedRunner(context_length=256), step_tokens=64)
    bench.submit("stream", [5], max_output_tokens=50)
    bench.step(0.010)
    bench.step(0.010)
    bench.submit("long", range(1, 201), max_output_tokens=1)

    bench.step(0.010 + 32 * 0.0004)
    bench.step(0.010 + 20 * 0.0004)

    assert sizes(bench)[2:] == [[1, 32], [1, 20]]


@pytest.mark.parametrize(
    ("outputs", "prompt_tokens"),
    [([50, 50, 50], 101), ([50], 47), ([1, 1, 1], 20), ([], 20)],
    ids=["three more streams", "one more stream", "a token each", "a text to score"],
)
def test_prompts_are_read_at_the_pace_of_all_who_will_stream(outputs: list[int], prompt_tokens: int) -> None:
    """Steps of one row take 10 ms, of four 28 ms, a prompt's token 0.4 ms more."""
    bench = Bench(ScriptedRunner(slots=4, context_length=256), step_tokens=128)
    for name in "abcd":
        bench.submit(name, [5], max_output_tokens=5)
    for _ in range(5):
        bench.step(0.028)
    bench.submit("stream", [5], max_output_tokens=50)
    bench.step(0.010)
    for number, tokens in enumerate(outputs):
        bench.submit(str(number), range(1, 201), max_output_tokens=tokens)
    if not outputs:
        bench.scheduler.submit(FRONT, Score(request="text", model="scripted", ids=list(range(1, 201))))

    bench.step(0.010 + 64 * 0.0004)
    bench.step()

    assert [sum(chunks) - 1 for chunks in sizes(bench)[-2:]] == [64, pytest.approx(prompt_tokens, abs=1)]


@pytest.mark.parametrize(("step_tokens", "prompt_tokens"), [(255, 127), (256, 200)])
def test_steps_of_a_whole_context_read_prompts_in_one_piece(step_tokens: int, prompt_tokens: int) -> None:
    bench = Bench(ScriptedRunner(context_length=256), step_tokens=step_tokens)
    bench.submit("stream", [5], max_output_tokens=50)
    bench.step()
    bench.submit("long", range(1, 201), max_output_tokens=1)

    bench.step()

    assert sizes(bench)[-1] == [1, prompt_tokens]


def test_a_prompt_advances_even_when_decode_rows_use_up_the_budget() -> None:
    bench = Bench(ScriptedRunner(slots=4), step_tokens=2)
    for name in ("a", "b", "c"):
        bench.submit(name, [5], max_output_tokens=20)
    bench.submit("long", range(1, 41), max_output_tokens=1)

    bench.step()

    assert [len(chunk.ids) for chunk in bench.runner.steps[-1]] == [1, 1, 1, MINIMUM_PREFILL_TOKENS]


def test_prompts_are_prefilled_in_arrival_order() -> None:
    bench = Bench(step_tokens=32)
    bench.submit("first", range(1, 41), max_output_tokens=1)
    bench.submit("second", range(2, 22), max_output_tokens=1)

    bench.step()
    bench.step()

    sizes = [[(chunk.slot, len(chunk.ids)) for chunk in step] for step in bench.runner.steps]
    assert sizes == [[(0, 32)], [(0, 8), (1, 20)]]


def test_a_step_counts_the_prompt_tokens_in_it() -> None:
    bench = Bench(step_tokens=32)
    bench.submit("a", [5], max_output_tokens=5)
    bench.step()
    bench.submit("b", [6, 7, 8], max_output_tokens=5)

    step = bench.scheduler.schedule()

    assert (len(step.chunks), step.prefill_tokens) == (2, 3)


# Admission


def test_requests_are_admitted_first_come_first_served() -> None:
    bench = Bench(ScriptedRunner(slots=2))
    bench.submit("a", [5], max_output_tokens=3)
    bench.submit("wide", [6], candidates=2, max_output_tokens=1)
    bench.submit("narrow", [7], max_output_tokens=1)

    bench.run()

    assert bench.starts() == ["a", "wide", "narrow"]


def test_a_single_request_gets_the_first_slot_that_comes_free_in_a_flood() -> None:
    bench = Bench(ScriptedRunner(slots=2))
    for number in range(200):
        bench.submit(f"flood {number}", [5], identity="flood", max_output_tokens=5)
    for _ in range(20):
        bench.step()
    before = bench.starts()

    bench.submit("single", [6], identity="calm", max_output_tokens=5)
    while len(bench.starts()) == len(before):
        bench.step()

    assert bench.starts()[len(before)] == "single"


def test_a_wide_request_whose_turn_has_come_is_not_overtaken_while_its_slots_come_free() -> None:
    bench = Bench(ScriptedRunner(slots=4))
    for length in (3, 6, 9, 12):
        bench.submit(f"running {length}", [5], identity=f"running {length}", max_output_tokens=length)
    bench.submit("wide", [5], candidates=4, identity="wide", max_output_tokens=9)
    for _ in range(4):
        bench.step()
    assert bench.scheduler.running == 3

    newcomers = 0
    while len(bench.starts()) == 4:
        bench.submit(f"new {newcomers}", [5], identity=f"new {newcomers}", max_output_tokens=1)
        bench.step()
        newcomers += 1

    assert bench.starts()[4] == "wide"
    assert newcomers == 9


def test_slots_that_stay_empty_for_wide_requests_count_as_theirs() -> None:
    """Else requests of many sequences and few tokens, which are due soon again, would keep the others' slots empty."""
    slots, long = 4, 20
    bench = Bench(ScriptedRunner(slots=slots))
    for number in range(200):
        bench.submit(f"wide {number}", [5], candidates=slots, identity="wide", max_output_tokens=1)
        bench.submit(f"narrow {number}", [5], identity="narrow", max_output_tokens=long)

    empty = 0
    for _ in range(1_000):
        bench.step()
        empty += slots - bench.scheduler.running
    narrow = sum(start.startswith("narrow") for start in bench.starts())

    assert narrow * (1 + long) > 0.9 * empty


def test_a_higher_priority_goes_first_among_the_requests_of_one_identity() -> None:
    bench = Bench(ScriptedRunner(slots=1))
    bench.submit("running", [5], max_output_tokens=2)
    bench.step()
    bench.submit("plain", [5], max_output_tokens=1)
    bench.submit("urgent", [5], max_output_tokens=1, priority=1)

    bench.run()

    assert bench.starts() == ["running", "urgent", "plain"]


def test_what_a_request_did_not_generate_is_not_counted_against_its_identity() -> None:
    bench = Bench(ScriptedRunner(slots=1, script=lambda *_: EOS))
    for number in range(4):
        bench.submit(f"short {number}", [5], identity="asks for much", max_output_tokens=50)
        bench.submit(f"other {number}", [5], identity="asks for little", max_output_tokens=2)

    bench.run()

    assert bench.starts()[:4] == ["other 0", "short 0", "other 1", "short 1"]


def test_a_request_waits_until_all_its_candidates_fit() -> None:
    bench = Bench(ScriptedRunner(slots=2))
    bench.submit("a", [5], max_output_tokens=2)
    bench.submit("wide", [6], candidates=2)

    bench.step()

    assert (bench.scheduler.queued, bench.scheduler.running) == (1, 1)


def test_queue_seconds_are_the_time_until_the_slots_are_held() -> None:
    bench = Bench(ScriptedRunner(slots=1))
    bench.submit("a", [5], max_output_tokens=1)
    bench.submit("b", [6], max_output_tokens=1)
    bench.step()
    bench.clock.now += 2.5

    bench.step()

    assert Started(request="b", queue_seconds=2.5) in bench.events


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (submission("a", [5], candidates=5), "candidates"),
        (submission("a", [5], candidates=0), "candidates"),
        (submission("a", []), "tokens"),
        (submission("a", [5] * 64), "tokens"),
        (submission("a", [1_000]), "token ids"),
        (submission("a", [-1]), "token ids"),
        (submission("a", [5], logit_bias={1_000: 1.0}), "logit_bias"),
        (submission("a", [5], max_output_tokens=0), "max_output_tokens"),
        (Score(request="a", model="scripted", ids=[5]), "tokens"),
        (Score(request="a", model="scripted", ids=[5] * 65), "tokens"),
        (Score(request="a", model="scripted", ids=[5, 1_000]), "token ids"),
    ],
)
def test_what_can_never_run_is_refused(message: Submit | Score, part: str) -> None:
    bench = Bench()

    bench.scheduler.submit(FRONT, message)

    (refused,) = bench.collect()
    assert isinstance(refused, Refused)
    assert part in refused.cause
    assert not bench.scheduler.has_work


# Candidates


def test_candidates_share_one_prefill() -> None:
    bench = Bench(step_tokens=32)
    bench.submit("a", [5, 6, 7, 8], candidates=3, max_output_tokens=4)

    bench.run()

    assert sum(len(chunk.ids) for chunk in bench.runner.steps[0]) == 4
    assert bench.runner.copies == [(0, 1, 3), (0, 2, 3)]
    for candidate in range(3):
        assert bench.tokens("a", candidate) == expected([5, 6, 7, 8], 4, candidate)


def test_candidates_of_a_one_token_prompt_start_together_without_a_copy() -> None:
    bench = Bench()
    bench.submit("a", [5], candidates=3, max_output_tokens=2)

    bench.step()

    assert len(bench.runner.steps[0]) == 3
    assert bench.runner.copies == []


def test_followers_get_the_prompt_of_a_leader_that_ends_with_its_first_token() -> None:
    bench = Bench(ScriptedRunner(script=lambda candidate, position, prompt: EOS if candidate == 0 else 9))
    bench.submit("a", [5, 6, 7], candidates=2, max_output_tokens=2)

    bench.run()

    assert bench.finishes("a") == {0: Finish.STOP, 1: Finish.MAX_OUTPUT_TOKENS}
    assert bench.tokens("a", 1) == [9, 9]


def test_a_follower_goes_on_with_the_prompt_of_an_aborted_leader() -> None:
    bench = Bench(ScriptedRunner(context_length=128), step_tokens=16)
    bench.submit("a", range(1, 41), candidates=3, max_output_tokens=2)
    bench.step()

    bench.abort("a", 0)
    bench.run()

    assert bench.runner.copies[0] == (0, 1, 16)
    assert [step[0].start for step in bench.runner.steps[:3]] == [0, 16, 32]
    for candidate in (1, 2):
        assert bench.tokens("a", candidate) == expected(range(1, 41), 2, candidate)


def test_aborting_a_whole_request_copies_nothing() -> None:
    bench = Bench(ScriptedRunner(context_length=128), step_tokens=16)
    bench.submit("a", range(1, 41), candidates=3)
    bench.step()

    bench.abort("a")
    bench.collect()

    assert bench.runner.copies == []
    assert bench.finishes("a") == dict.fromkeys(range(3), Finish.ABORTED)


# Prefix reuse; its rules of which slot is taken are in test_slots.py


def long_runner(slots: int = 4) -> ScriptedRunner:
    return ScriptedRunner(slots=slots, context_length=256)


def test_a_prompt_that_begins_like_an_earlier_one_is_read_from_where_they_differ() -> None:
    bench = Bench(long_runner())
    bench.submit("a", range(1, 41), cache_salt="lab", max_output_tokens=3)
    bench.run()

    bench.submit("b", [*range(1, 31), 90, 91], cache_salt="lab", max_output_tokens=3)
    bench.run()

    assert bench.cached("b") == 30
    assert bench.tokens("b") == expected([*range(1, 31), 90, 91], 3)


def test_a_conversation_goes_on_behind_its_last_answer() -> None:
    bench = Bench(long_runner())
    bench.submit("a", range(1, 41), cache_salt="lab", max_output_tokens=3)
    bench.run()
    answered = [*range(1, 41), *bench.tokens("a")]

    bench.submit("b", [*answered, 90, 91], cache_salt="lab", max_output_tokens=3)
    bench.run()

    assert bench.cached("b") == len(answered) - 1  # the last token of an output is never fed
    assert bench.runner.copies == []


def test_the_last_token_of_a_prompt_is_always_fed() -> None:
    bench = Bench(long_runner())
    for name in ("a", "b"):
        bench.submit(name, range(1, 41), cache_salt="lab", max_output_tokens=3)
        bench.run()

    assert bench.cached("b") == 39
    assert bench.tokens("b") == expected(range(1, 41), 3)


def test_a_prompt_starts_from_what_a_running_sequence_has_fed() -> None:
    bench = Bench(long_runner(), step_tokens=32)
    bench.submit("a", range(1, 101), cache_salt="lab", max_output_tokens=9)
    bench.step()

    bench.submit("b", range(1, 101), cache_salt="lab", max_output_tokens=9)
    bench.run()

    assert bench.cached("b") == 32
    assert bench.runner.copies == [(0, 1, 32)]
    assert bench.tokens("a") == bench.tokens("b") == expected(range(1, 101), 9)


@pytest.mark.parametrize("tokens", [1, 9], ids=["ended", "running"])
@pytest.mark.parametrize("salts", [("lab", "other"), ("", ""), ("lab", ""), ("", "lab")])
def test_nothing_is_shared_but_under_one_salt(salts: tuple[str, str], tokens: int) -> None:
    bench = Bench(long_runner())
    bench.submit("a", range(1, 41), cache_salt=salts[0], max_output_tokens=tokens)
    bench.step()
    bench.step()

    bench.submit("b", range(1, 41), cache_salt=salts[1], max_output_tokens=1)
    bench.run()

    assert bench.cached("b") == 0


def test_nothing_is_shared_where_prefix_reuse_is_off() -> None:
    bench = Bench(long_runner(), prefix_reuse=False)
    for name in ("a", "b"):
        bench.submit(name, range(1, 41), cache_salt="lab", max_output_tokens=3)
        bench.run()

    assert bench.cached("b") == 0


def test_candidates_share_what_their_request_did_not_have_to_feed() -> None:
    bench = Bench(long_runner())
    bench.submit("a", range(1, 41), cache_salt="lab", max_output_tokens=3)
    bench.run()

    bench.submit("b", range(1, 41), cache_salt="lab", candidates=3, max_output_tokens=3)
    bench.run()

    assert bench.cached("b") == 39
    assert [length for _, _, length in bench.runner.copies] == [39, 39]
    for candidate in range(3):
        assert bench.tokens("b", candidate) == expected(range(1, 41), 3, candidate)


def test_a_score_starts_from_nothing_and_leaves_nothing() -> None:
    bench = Bench(long_runner())
    bench.submit("a", range(1, 41), cache_salt="lab", max_output_tokens=1)
    bench.run()
    bench.scheduler.submit(FRONT, Score(request="known", model="scripted", ids=list(range(1, 41)), identity="lab"))
    bench.scheduler.submit(FRONT, Score(request="new", model="scripted", ids=list(range(2, 42)), identity="lab"))
    bench.run()

    bench.submit("b", range(2, 42), cache_salt="lab", max_output_tokens=1)
    bench.run()

    assert [bench.cached(name) for name in ("known", "new", "b")] == [0, 0, 0]


def test_a_prompt_that_was_aborted_half_read_is_of_use_as_far_as_it_was_read() -> None:
    bench = Bench(long_runner(), step_tokens=32)
    bench.submit("a", range(1, 101), cache_salt="lab")
    bench.step()
    bench.abort("a")

    bench.submit("b", range(1, 101), cache_salt="lab", max_output_tokens=1)
    bench.run()

    assert bench.cached("b") == 32


def test_what_is_in_the_slot_of_a_failed_sequence_is_used_by_nobody() -> None:
    bench = Bench(long_runner())
    bench.submit("a", range(1, 41), cache_salt="lab")
    bench.step()
    bench.scheduler.fail_running()

    bench.submit("b", range(1, 41), cache_salt="lab", max_output_tokens=1)
    bench.run()

    assert bench.cached("b") == 0


def test_a_step_counts_the_prompt_tokens_that_need_not_be_fed() -> None:
    bench = Bench(long_runner())
    bench.submit("a", range(1, 41), cache_salt="lab", max_output_tokens=1)
    bench.run()
    for name in ("b", "c"):
        bench.submit(name, range(1, 41), cache_salt="lab", max_output_tokens=1)

    step = bench.scheduler.schedule()

    assert (step.prefill_tokens, step.cached_tokens) == (2, 78)


# Abort and deadline


def test_a_running_request_can_be_aborted() -> None:
    bench = Bench()
    bench.submit("a", [5], max_output_tokens=50)
    bench.step()

    bench.abort("a")
    bench.run()

    assert bench.finishes("a") == {0: Finish.ABORTED}
    assert bench.runner.open_slots == {}


def test_a_queued_request_can_be_aborted() -> None:
    bench = Bench(ScriptedRunner(slots=1))
    bench.submit("a", [5], max_output_tokens=5)
    bench.submit("b", [6])
    bench.step()

    bench.abort("b")
    bench.run()

    assert bench.finishes("b") == {0: Finish.ABORTED}
    assert len(bench.tokens("a")) == 5


def test_one_candidate_can_be_aborted_while_the_others_run() -> None:
    bench = Bench()
    bench.submit("a", [5], candidates=2, max_output_tokens=3)
    bench.step()

    bench.abort("a", 1)
    bench.run()

    assert bench.finishes("a") == {0: Finish.MAX_OUTPUT_TOKENS, 1: Finish.ABORTED}


def test_a_queued_candidate_that_is_aborted_needs_no_slot() -> None:
    bench = Bench(ScriptedRunner(slots=2))
    bench.submit("a", [5], max_output_tokens=5)
    bench.submit("b", [6, 7], candidates=2, max_output_tokens=1)
    bench.step()

    bench.abort("b", 0)
    bench.step()

    assert bench.tokens("b", 1) == expected([6, 7], 1, 1)


def test_aborting_what_is_unknown_or_over_does_nothing() -> None:
    bench = Bench()
    bench.submit("a", [5], max_output_tokens=1)
    bench.run()

    bench.abort("a")
    bench.abort("never", 3)

    assert bench.collect() == []


def test_a_token_of_a_sequence_that_was_aborted_in_between_is_dropped() -> None:
    bench = Bench()
    bench.submit("a", [5])
    bench.submit("b", [6])
    step = bench.scheduler.schedule()
    outcomes = bench.runner.run(step.chunks)

    bench.abort("a")
    bench.scheduler.commit(step, outcomes)

    bench.collect()
    assert (bench.tokens("a"), bench.tokens("b")) == ([], expected([6], 1))


@pytest.mark.parametrize("slots", [1, 2])
def test_a_deadline_ends_a_request_queued_or_running(slots: int) -> None:
    bench = Bench(ScriptedRunner(slots=slots))
    bench.submit("a", [5], max_output_tokens=50)
    bench.submit("b", [6], max_output_tokens=50, deadline=bench.clock.now + 1)
    bench.step()
    assert bench.scheduler.queued == 2 - slots

    bench.clock.now += 1
    bench.step()

    assert bench.finishes("b") == {0: Finish.DEADLINE}
    assert bench.finishes("a") == {}


def test_a_later_deadline_is_kept_after_an_earlier_one_has_passed() -> None:
    bench = Bench()
    bench.submit("a", [5], max_output_tokens=50, deadline=bench.clock.now + 1)
    bench.submit("b", [6], max_output_tokens=50, deadline=bench.clock.now + 2)
    bench.clock.now += 1
    bench.step()

    bench.clock.now += 1
    bench.step()

    assert (bench.finishes("a"), bench.finishes("b")) == ({0: Finish.DEADLINE}, {0: Finish.DEADLINE})


def waiting_bench(*step_seconds: float) -> Bench:
    """One slot, held by a stream whose steps have taken these times; 32 prompt tokens fit a step."""
    bench = Bench(ScriptedRunner(slots=1, context_length=256), step_tokens=32)
    bench.submit("running", [5], max_output_tokens=50)
    for seconds in step_seconds:
        bench.step(seconds)
    return bench


def test_what_waits_ends_as_soon_as_its_first_token_cannot_come_before_its_deadline() -> None:
    bench = waiting_bench(9.0, 1.0, 2.0)  # no step is faster than 1 s, and the prompt below takes four
    bench.submit("too late", range(1, 101), deadline=bench.clock.now + 4)
    bench.submit("in time", range(1, 101), deadline=bench.clock.now + 4.5)

    bench.step(1.0)
    assert bench.finishes("too late") == {0: Finish.DEADLINE}
    assert bench.finishes("in time") == {}

    bench.step(1.0)
    assert bench.finishes("in time") == {0: Finish.DEADLINE}


def test_steps_that_read_prompts_say_nothing_of_how_soon_a_token_can_come() -> None:
    bench = Bench(ScriptedRunner(slots=2, context_length=256), step_tokens=32)
    bench.submit("long", range(1, 101), max_output_tokens=1)
    bench.step(9.0)
    bench.submit("short", [5], max_output_tokens=1, deadline=bench.clock.now + 1)

    bench.step(0.5)

    assert bench.finishes("short") == {0: Finish.MAX_OUTPUT_TOKENS}


class Drafting(ScriptedRunner):
    """Says that its outcomes had drafts, when it is told to."""

    is_drafting = False

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        outcomes = super().run(chunks)
        return [replace(outcome, drafted=4) for outcome in outcomes] if self.is_drafting else outcomes


def test_steps_with_drafts_say_nothing_of_how_much_prompt_a_step_may_read() -> None:
    runner = Drafting(context_length=256)
    bench = Bench(runner, step_tokens=64)
    bench.submit("stream", [5], max_output_tokens=90)
    bench.step(1.0)
    bench.submit("prompt", range(1, 33), max_output_tokens=1)
    bench.step(2.6)  # 1.6 s for 32 tokens: 0.8 s more than without are 16
    runner.is_drafting = True
    for _ in range(30):
        bench.step(5.0)
    runner.is_drafting = False
    bench.submit("long", range(1, 201), max_output_tokens=1)

    bench.step()

    assert sizes(bench)[-1] == [1, 16]


def test_a_prompt_that_may_be_cached_needs_no_more_than_one_step() -> None:
    bench = waiting_bench(1.0)
    bench.submit("too late", range(1, 101), cache_salt="lab", deadline=bench.clock.now + 1)
    bench.submit("in time", range(1, 101), cache_salt="lab", deadline=bench.clock.now + 1.5)

    bench.step()

    assert bench.finishes("too late") == {0: Finish.DEADLINE}
    assert bench.finishes("in time") == {}


def test_a_score_that_waits_ends_when_its_text_cannot_be_read_in_time() -> None:
    bench = waiting_bench(1.0)
    for name, seconds in (("too late", 4.0), ("in time", 4.5)):
        deadline = bench.clock.now + seconds
        bench.scheduler.submit(FRONT, Score(request=name, model="scripted", ids=list(range(1, 102)), deadline=deadline))

    bench.step()

    assert bench.finishes("too late") == {0: Finish.DEADLINE}
    assert bench.finishes("in time") == {}


def test_what_runs_has_all_its_time_even_if_its_first_token_will_be_late() -> None:
    bench = Bench(ScriptedRunner(context_length=256), step_tokens=32)
    bench.submit("a", range(1, 101), deadline=bench.clock.now + 2.5)

    for _ in range(3):
        bench.step(1.0)
        assert bench.finishes("a") == {}

    bench.step()
    assert bench.finishes("a") == {0: Finish.DEADLINE}


def test_before_the_first_step_nobody_knows_what_is_too_late() -> None:
    bench = Bench(ScriptedRunner(slots=1))
    bench.submit("a", [5])
    bench.submit("b", range(1, 60), deadline=bench.clock.now + 1e-6)

    bench.step()

    assert bench.finishes("b") == {}


# Scores


def test_a_score_request_answers_for_every_token_but_the_first() -> None:
    bench = Bench()
    bench.scheduler.submit(FRONT, Score(request="s", model="scripted", ids=[5, 6, 7, 8], logprobs=2))

    bench.run()

    scored = bench.events[-1]
    assert isinstance(scored, Scored)
    assert scored.logprobs == [target_logprob(token) for token in (6, 7, 8)]
    assert [[entry.id for entry in entries] for entries in scored.top] == [[0, 1]] * 3
    assert bench.runner.open_slots == {}


def test_a_long_text_is_scored_in_chunks_beside_running_streams() -> None:
    bench = Bench(step_tokens=17)
    bench.submit("stream", [5], max_output_tokens=20)
    bench.scheduler.submit(FRONT, Score(request="s", model="scripted", ids=list(range(1, 65))))

    for _ in range(4):
        bench.step()

    assert len(bench.tokens("stream")) == 4
    assert bench.events[-1] == Scored(
        request="s", logprobs=[target_logprob(token) for token in range(2, 65)], top=[()] * 63
    )


def test_a_score_request_that_is_aborted_finishes_as_its_only_candidate() -> None:
    bench = Bench()
    bench.scheduler.submit(FRONT, Score(request="s", model="scripted", ids=[5, 6]))

    bench.abort("s")

    assert bench.collect() == [Finished(request="s", candidate=0, finish=Finish.ABORTED)]


# Failure


def test_a_failed_step_ends_what_runs_and_keeps_what_waits() -> None:
    bench = Bench(ScriptedRunner(slots=2))
    bench.submit("a", [5, 6, 7], candidates=2)
    bench.submit("b", [6], max_output_tokens=1)
    bench.scheduler.schedule()

    bench.scheduler.fail_running()
    bench.run()

    assert bench.finishes("a") == {0: Finish.FAILED, 1: Finish.FAILED}
    assert bench.tokens("b") == expected([6], 1)


def test_only_the_sequences_at_fault_fail_where_they_are_known() -> None:
    bench = Bench()
    bench.submit("a", [5], max_output_tokens=1)
    bench.submit("b", [6], max_output_tokens=1)
    step = bench.scheduler.schedule()

    bench.scheduler.fail_running({step.chunks[0].slot})
    bench.run()

    assert (bench.finishes("a"), bench.tokens("b")) == ({0: Finish.FAILED}, expected([6], 1))


def test_a_follower_reads_the_prompt_from_its_start_when_the_leader_is_at_fault() -> None:
    bench = Bench(ScriptedRunner(context_length=128), step_tokens=16)
    bench.submit("a", range(1, 41), candidates=2, max_output_tokens=2)
    bench.step()
    bench.scheduler.schedule()

    bench.scheduler.fail_running({0})
    bench.run()

    assert bench.runner.copies == []
    assert [step[0].start for step in bench.runner.steps] == [0, 0, 16, 32, 40]
    assert bench.tokens("a", 1) == expected(range(1, 41), 2, 1)


@pytest.mark.parametrize("outcomes", [[], [Outcome()]])
def test_a_runner_that_answers_wrongly_is_an_error(outcomes: list[Outcome]) -> None:
    bench = Bench()
    bench.submit("a", [5])
    step = bench.scheduler.schedule()

    with pytest.raises((RuntimeError, ValueError)):
        bench.scheduler.commit(step, outcomes)


def test_a_slot_that_cannot_be_opened_leaks_nothing() -> None:
    bench = Bench(RefusesSecondSlot())
    bench.submit("a", [5, 6], candidates=2)

    with pytest.raises(RuntimeError):
        bench.scheduler.schedule()
    bench.scheduler.fail_running()

    bench.collect()
    assert bench.finishes("a") == {0: Finish.FAILED, 1: Finish.FAILED}
    assert bench.runner.open_slots == {}


class RefusesSecondSlot(ScriptedRunner):
    def open(self, slot: int, sampling: Sampling | None, candidate: int, prompt: Sequence[int]) -> None:
        if slot == 1:
            raise RuntimeError("out of memory")
        super().open(slot, sampling, candidate, prompt)


# Memory


def sizes(bench: Bench) -> list[list[int]]:
    """Tokens of each chunk of each step."""
    return [[len(chunk.ids) for chunk in step] for step in bench.runner.steps]


def test_a_prompt_that_finds_too_little_memory_is_read_in_smaller_chunks() -> None:
    bench = Bench(ScriptedRunner(context_length=256), step_tokens=64)
    bench.runner.memory = 20
    bench.submit("a", range(1, 101), max_output_tokens=5)

    bench.run()

    assert sizes(bench)[:4] == [[64], [32], [16], [16]]
    assert bench.tokens("a") == expected(range(1, 101), 5)
    assert bench.scheduler.is_short_of_memory


def test_prompts_wait_before_streams_do() -> None:
    bench = Bench(ScriptedRunner(slots=8, context_length=256), step_tokens=52)
    for number in range(6):
        bench.submit(str(number), [5], max_output_tokens=90)
    bench.step()
    bench.runner.memory = 6
    bench.submit("long", range(1, 101), max_output_tokens=1)

    for _ in range(5):
        bench.step()

    assert sizes(bench)[1:] == [[1] * 6 + [26], [1] * 6 + [10], [1] * 6 + [2], [1] * 4, [1] * 4]


def test_the_streams_that_started_last_wait_and_all_of_them_get_their_tokens() -> None:
    bench = Bench(ScriptedRunner(slots=8))
    bench.runner.memory = 3
    for number in range(8):
        bench.submit(str(number), [5 + number], max_output_tokens=20)
    bench.step()
    bench.step()
    bench.step()

    assert [len(bench.tokens(str(number))) for number in range(8)] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert bench.scheduler.running == 8

    bench.run()

    assert all(bench.tokens(str(number)) == expected([5 + number], 20) for number in range(8))


def test_steps_grow_back_when_there_is_memory_again() -> None:
    bench = Bench(ScriptedRunner(slots=8, context_length=256))
    for number in range(8):
        bench.submit(str(number), [5 + number], max_output_tokens=200)
    bench.runner.memory = 2
    for _ in range(5):
        bench.step()
    assert sizes(bench)[-1] == [1, 1]
    bench.runner.memory = 99

    bench.run()

    assert max(map(len, sizes(bench)[3:])) == 8
    assert all(bench.tokens(str(number)) == expected([5 + number], 200) for number in range(8))
    assert not bench.scheduler.is_short_of_memory


def test_a_sequence_for_which_not_even_one_token_finds_memory_fails_and_the_others_go_on() -> None:
    bench = Bench(ScriptedRunner(slots=2))
    bench.submit("a", [5], max_output_tokens=3)
    bench.submit("b", [6], max_output_tokens=3)
    bench.runner.memory = 0

    while not bench.finishes("a"):
        bench.step()
    bench.runner.memory = 99
    bench.run()

    assert sizes(bench)[:4] == [[1, 1], [1], [1], [1]]
    assert bench.finishes("a") == {0: Finish.FAILED}
    assert bench.tokens("b") == expected([6], 3)


def test_a_text_is_scored_whatever_the_size_of_its_chunks() -> None:
    bench = Bench(step_tokens=64)
    bench.runner.memory = 10
    bench.scheduler.submit(FRONT, Score(request="s", model="scripted", ids=list(range(1, 65))))

    bench.run()

    assert bench.events[-1] == Scored(
        request="s", logprobs=[target_logprob(token) for token in range(2, 65)], top=[()] * 63
    )


# Front ends


def test_front_ends_may_use_the_same_request_names() -> None:
    bench = Bench()
    bench.scheduler.submit("one", submission("a", [5], max_output_tokens=1))
    bench.scheduler.submit("two", submission("a", [6], max_output_tokens=1))

    bench.scheduler.abort("one", "a")
    step = bench.scheduler.schedule()
    bench.scheduler.commit(step, bench.runner.run(step.chunks))

    events = bench.scheduler.take_events()
    assert events["one"] == [Finished(request="a", candidate=0, finish=Finish.ABORTED)]
    assert [type(event) for event in events["two"]] == [Started, Token, Finished]


def test_a_front_end_that_is_forgotten_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.scheduler.submit("gone", submission("a", [5]))
    bench.submit("b", [6], max_output_tokens=1)

    bench.scheduler.forget("gone")

    assert "gone" not in bench.scheduler.take_events()
    bench.run()
    assert not bench.scheduler.knows("gone", "a")
    assert bench.finishes("b") == {0: Finish.MAX_OUTPUT_TOKENS}
