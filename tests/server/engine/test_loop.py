from __future__ import annotations

import weakref
from collections.abc import Callable, MutableMapping
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Any

import pytest
from engine_port import Entry, PlayedPort
from late_runner import LateRunner
from msgspec import structs
from scripted_drafts import ScriptedDraftModel
from scripted_runner import ScriptedRunner, count_up, scripted_load, target_logprob

from sluicegate.server.engine.errors import EngineFailed, ModelLoadError, StepError
from sluicegate.server.engine.loop import COMMANDS_PER_TURN, FAILURES_IN_A_ROW, EngineLoop
from sluicegate.server.engine.messages import (
    Abort,
    Event,
    Figures,
    Finish,
    Finished,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Refused,
    Sampling,
    Score,
    Scored,
    Speculation,
    Started,
    Stop,
    Submit,
    Token,
    Unload,
)
from sluicegate.server.engine.runner import Chunk, ModelFacts, Outcome, Runner

PROMPT = [5, 6, 7]
LOAD = scripted_load()


class Models:
    """Gives each Load its scripted runner, and remembers them."""

    def __init__(self, **runners: ScriptedRunner) -> None:
        self.runners = runners
        self.loaded: list[str] = []

    def __call__(self, load: Load) -> Runner:
        self.loaded.append(load.model)
        return self.runners.setdefault(load.model, ScriptedRunner(slots=load.slots))


def play(port: PlayedPort, load: Callable[[Load], Runner] | None = None) -> PlayedPort:
    EngineLoop(port, load or Models(), clock=lambda: 100.0).run()
    return port


def submission(request: str, *, model: str = "scripted", tokens: int = 3, deadline: float | None = None) -> Submit:
    sampling = Sampling(max_output_tokens=tokens)
    return Submit(request=request, model=model, prompt=PROMPT, sampling=sampling, deadline=deadline)


def tokens(events: list[Event], request: str) -> list[int]:
    return [event.id for event in events if isinstance(event, Token) and event.request == request]


def finishes(events: list[Event], request: str) -> list[Finish]:
    return [event.finish for event in events if isinstance(event, Finished) and event.request == request]


def figures(events: list[Event], model: str = "scripted") -> list[Figures]:
    return [event for event in events if isinstance(event, Figures) and event.model == model]


def expected(count: int) -> list[int]:
    return [count_up(0, len(PROMPT) + index, tuple(PROMPT)) for index in range(count)]


# Models


def test_a_loaded_model_tells_what_it_is_and_that_it_is_idle() -> None:
    port = play(PlayedPort([LOAD]))

    loaded, idle = port.events()
    assert isinstance(loaded, Loaded)
    assert (loaded.model, loaded.slots, loaded.context_length) == ("scripted", 4, 64)
    assert idle == Figures(
        model="scripted",
        queued=0,
        running=0,
        slots=4,
        batch_rows=0,
        prefill_tokens=0,
        cached_tokens=0,
        step_seconds=0.0,
    )


def test_a_second_load_with_the_same_settings_answers_without_loading() -> None:
    models = Models()

    port = play(PlayedPort([LOAD], [("other", LOAD)]), models)

    assert models.loaded == ["scripted"]
    assert port.events("other")[0] == port.events()[0]


def test_a_second_load_with_other_settings_is_refused_and_the_model_stays() -> None:
    port = play(PlayedPort([LOAD], [scripted_load(slots=2)], [submission("a")]))

    refused = next(event for event in port.events() if isinstance(event, LoadFailed))
    assert "unload it first" in refused.message
    assert tokens(port.events(), "a") == expected(3)


def test_a_model_that_cannot_be_loaded_says_what_to_do() -> None:
    def load(message: Load) -> Runner:
        raise ModelLoadError(f"{message.model}: no such directory")

    port = play(PlayedPort([LOAD]), load)

    assert port.events() == [LoadFailed(model="scripted", message="scripted: no such directory")]


def test_an_unexpected_load_error_is_told_by_its_type_only_and_the_loop_goes_on() -> None:
    def load(message: Load) -> Runner:
        raise MemoryError("secret")

    port = play(PlayedPort([LOAD], [Ping(number=1)]), load)

    failed, pong = port.events()
    assert isinstance(failed, LoadFailed)
    assert "MemoryError" in failed.message
    assert "secret" not in failed.message
    assert pong == Pong(number=1)


def test_unloading_ends_the_requests_of_that_model_only() -> None:
    loads = [scripted_load("one"), scripted_load("two")]
    port = play(
        PlayedPort(
            [*loads, submission("a", model="one"), submission("b", model="two")],
            [Unload(model="one"), submission("late", model="one")],
        )
    )

    assert finishes(port.events(), "a") == [Finish.ABORTED]
    assert tokens(port.events(), "b") == expected(3)
    assert Refused(request="late", cause="model: not loaded") in port.events()


def test_unloading_what_is_not_loaded_does_nothing() -> None:
    port = play(PlayedPort([Unload(model="nothing"), Ping(number=1)]))

    assert port.events() == [Pong(number=1)]


@pytest.mark.parametrize("turns", [[[LOAD, submission("a")]], [[LOAD], []]], ids=["busy", "idle"])
def test_an_unloaded_model_is_freed_before_the_next_command(turns: list[list[Load | Submit]]) -> None:
    held: list[bool] = []
    runners: list[weakref.ref[Runner]] = []

    def load(message: Load) -> Runner:
        held.extend(runner() is not None for runner in runners)
        runner = ScriptedRunner(slots=message.slots)
        runners.append(weakref.ref(runner))
        return runner

    play(PlayedPort(*turns, [Unload(model="scripted"), scripted_load("next")]), load)

    assert held == [False]


# Drafts

DRAFTED = scripted_load("large", speculation=Speculation(draft="small", tokens=3))


class WithDraftModel(Models):
    """Beside scripted runners `small`, which drafts for them."""

    def __init__(self, facts: ModelFacts | None = None) -> None:
        super().__init__()
        self.large = self.runners["large"] = ScriptedRunner()
        self.draft_slot_bytes: dict[str, int] = {}
        self.small = ScriptedDraftModel(facts or self.large.facts, count_up)

    def __call__(self, load: Load) -> Runner:
        self.draft_slot_bytes[load.model] = load.draft_slot_bytes
        return self.small if load.model == "small" else super().__call__(load)


def test_a_loaded_model_drafts_for_another_and_the_tokens_are_the_same() -> None:
    models = WithDraftModel()
    requests: list[Entry] = [submission(str(number), model="large", tokens=40) for number in range(3)]

    port = play(PlayedPort([scripted_load("small"), DRAFTED], requests), models)

    assert all(tokens(port.events(), str(number)) == expected(40) for number in range(3))
    shown = figures(port.events(), "large")
    drafted = sum(len(chunk.drafts) for step in models.large.steps for chunk in step)
    assert drafted > 20
    assert sum(figure.drafted_tokens for figure in shown) == drafted
    assert sum(figure.accepted_tokens for figure in shown) == drafted  # the small model draws as the large one does
    assert not models.small.steps  # its own callers' slots are left alone
    assert models.draft_slot_bytes == {"small": 0, "large": 64}


def test_a_model_can_draft_from_its_own_text() -> None:
    load = scripted_load(speculation=Speculation(draft=None, tokens=3))
    runner = ScriptedRunner(script=lambda _candidate, position, _prompt: 1 + position % 4)

    port = play(PlayedPort([load], [submission("a", tokens=50)]), Models(scripted=runner))

    assert tokens(port.events(), "a") == [1 + position % 4 for position in range(3, 53)]
    assert sum(figure.accepted_tokens for figure in figures(port.events())) > 10


@pytest.mark.parametrize(
    ("loads", "facts", "told"),
    [
        ([DRAFTED], None, "models.large.speculation.draft: small is not loaded on cpu; host it there"),
        (
            [scripted_load("small"), DRAFTED],
            replace(ScriptedRunner().facts, vocabulary_size=7),
            "models.large.speculation.draft: it has 7 token ids and the model 1000; "
            "name a model with the same tokenizer",
        ),
    ],
)
def test_a_draft_model_that_cannot_be_one_stops_the_load_and_says_why(
    loads: list[Entry], facts: ModelFacts | None, told: str
) -> None:
    port = play(PlayedPort(loads), WithDraftModel(facts))

    assert [event for event in port.events() if isinstance(event, LoadFailed)] == [
        LoadFailed(model="large", message=told)
    ]


# Requests


def test_a_request_runs_from_start_to_finish_with_figures_of_each_step() -> None:
    port = play(PlayedPort([LOAD], [submission("a", tokens=2)]))

    assert [type(event) for event in port.events()[2:]] == [Started, Token, Figures, Token, Finished, Figures]
    assert tokens(port.events(), "a") == expected(2)
    assert [(f.running, f.batch_rows, f.prefill_tokens) for f in figures(port.events())] == [
        (0, 0, 0),
        (1, 1, 3),
        (0, 1, 0),
    ]


def test_a_request_for_a_model_that_is_not_loaded_is_refused() -> None:
    port = play(PlayedPort([submission("a", model="absent")]))

    assert port.events() == [Refused(request="a", cause="model: not loaded")]


@pytest.mark.parametrize(
    "message",
    [submission("a", deadline=100.0), Score(request="a", model="scripted", ids=PROMPT, deadline=99.0)],
    ids=["generation", "score"],
)
def test_a_request_that_comes_after_its_deadline_finishes_without_a_step(message: Submit | Score) -> None:
    models = Models()

    port = play(PlayedPort([LOAD], [message], [submission("b")]), models)

    assert [type(event) for event in port.events() if getattr(event, "request", None) == "a"] == [Finished]
    assert finishes(port.events(), "a") == [Finish.DEADLINE]
    assert [len(step) for step in models.runners["scripted"].steps] == [1, 1, 1]
    assert tokens(port.events(), "b") == expected(3)


def test_a_live_request_is_not_disturbed_by_a_second_one_of_its_name() -> None:
    port = play(PlayedPort([LOAD], [submission("a")], [submission("a")]))

    assert tokens(port.events(), "a") == expected(3)
    assert finishes(port.events(), "a") == [Finish.MAX_OUTPUT_TOKENS]


def test_an_abort_reaches_the_request_whatever_its_model() -> None:
    loads = [scripted_load("one"), scripted_load("two")]

    port = play(PlayedPort([*loads, submission("a", model="two", tokens=50)], [Abort(request="a")]))

    assert finishes(port.events(), "a") == [Finish.ABORTED]
    assert figures(port.events(), "two")[-1].running == 0


def test_a_text_is_scored() -> None:
    port = play(PlayedPort([LOAD], [Score(request="a", model="scripted", ids=PROMPT)]))

    scored = next(event for event in port.events() if isinstance(event, Scored))
    assert scored.logprobs == [target_logprob(6), target_logprob(7)]


def test_a_flood_of_commands_does_not_keep_a_stream_from_its_steps() -> None:
    flood = [Ping(number=number) for number in range(3 * COMMANDS_PER_TURN)]

    port = play(PlayedPort([LOAD], [submission("a"), *flood]))

    finished = next(index for index, event in enumerate(port.events()) if isinstance(event, Finished))
    assert 0 < sum(isinstance(event, Pong) for event in port.events()[finished:]) <= COMMANDS_PER_TURN


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x93\xa5Abort\xa1\xff\xc0",
        b"\x93\xa4Ping\x01" + b"\x91" * 100_000,
        b"",
    ],
    ids=["noise", "no UTF-8", "endless nesting", "nothing"],
)
def test_bytes_that_are_no_command_are_dropped_and_streams_go_on(
    data: bytes, logs: list[MutableMapping[str, Any]]
) -> None:
    port = play(PlayedPort([LOAD], [submission("a")], [("stranger", data)]))

    assert tokens(port.events(), "a") == expected(3)
    assert port.events("stranger") == []
    assert [entry["front_end"] for entry in logs if entry["event"] == "command_dropped"] == ["stranger"]


def test_stop_ends_the_loop_after_the_step_in_progress() -> None:
    port = play(PlayedPort([LOAD], [submission("a", tokens=50)], [Stop(), submission("late")]))

    assert tokens(port.events(), "a") == expected(1)
    assert finishes(port.events(), "late") == []


# Several front ends


def test_front_ends_get_their_own_events_and_the_figures_of_all() -> None:
    port = play(PlayedPort([LOAD], [submission("a", tokens=2), ("other", submission("a", tokens=5))]))

    assert tokens(port.events(), "a") == expected(2)
    assert tokens(port.events("other"), "a") == expected(5)
    assert figures(port.events())[1:] == figures(port.events("other"))


def test_a_front_end_that_goes_away_frees_its_slots_and_the_others_go_on() -> None:
    models = Models()
    port = PlayedPort([LOAD], [submission("a", tokens=9), ("other", submission("b", tokens=50))])
    port.gone = {"other"}

    play(port, models)

    assert tokens(port.events(), "a") == expected(9)
    assert models.runners["scripted"].open_slots == {}
    assert len(models.runners["scripted"].steps) == 9
    assert figures(port.events())[1].running == 2
    assert figures(port.events())[2].running == 1


class ForgetfulPort(PlayedPort):
    """Loses the front end `other` once that was told of a token."""

    def send(self, front_end: str, data: bytes) -> None:
        super().send(front_end, data)
        if any(isinstance(event, Token) for event in self.events("other")):
            self.gone.add("other")


def test_figures_are_told_when_a_front_end_that_went_away_leaves_a_model_idle() -> None:
    port = ForgetfulPort(
        [scripted_load("one"), scripted_load("two")],
        [("other", submission("a", model="one", tokens=50)), ("other", submission("b", model="two", tokens=50))],
    )

    play(port)

    for model in ("one", "two"):
        assert (figures(port.events(), model)[-1].running, figures(port.events(), model)[-1].batch_rows) == (0, 0)


# Steps that fail


def test_a_failed_step_ends_what_runs_and_the_next_request_runs() -> None:
    runner = ScriptedRunner()
    runner.failures.append(RuntimeError("broken"))

    port = play(PlayedPort([LOAD], [submission("a")], [submission("b")]), Models(scripted=runner))

    assert finishes(port.events(), "a") == [Finish.FAILED]
    assert tokens(port.events(), "b") == expected(3)
    assert runner.open_slots == {}


def test_a_step_error_ends_only_the_sequences_at_fault() -> None:
    runner = ScriptedRunner()
    runner.failures.append(StepError("bad parameters", slots=[0]))

    port = play(PlayedPort([LOAD], [submission("a"), submission("b")]), Models(scripted=runner))

    assert finishes(port.events(), "a") == [Finish.FAILED]
    assert tokens(port.events(), "b") == expected(3)


def test_a_model_whose_steps_fail_in_a_row_ends_the_loop_and_every_request_is_told() -> None:
    runner = ScriptedRunner()
    runner.failures += [RuntimeError("broken")] * FAILURES_IN_A_ROW
    names = [str(number) for number in range(FAILURES_IN_A_ROW)]
    port = PlayedPort([LOAD], *([submission(name)] for name in names))

    with pytest.raises(EngineFailed, match="scripted"):
        play(port, Models(scripted=runner))

    assert [finishes(port.events(), name) for name in names] == [[Finish.FAILED]] * FAILURES_IN_A_ROW


def test_a_step_that_succeeds_makes_earlier_failures_forgotten() -> None:
    runner = ScriptedRunner()
    turns: list[list[Entry]] = []
    for number in range(2 * FAILURES_IN_A_ROW):
        turns.append([lambda: runner.failures.append(RuntimeError("broken")), submission(f"bad {number}")])
        turns.append([submission(f"good {number}", tokens=1)])

    port = play(PlayedPort([LOAD], *turns), Models(scripted=runner))

    assert tokens(port.events(), "good 5") == expected(1)


def test_a_model_that_always_fails_never_disturbs_the_streams_of_another() -> None:
    broken = ScriptedRunner()
    broken.failures += [RuntimeError("broken")] * 40
    port = PlayedPort(
        [scripted_load("broken"), scripted_load("sound")],
        [("other", submission("long", model="sound", tokens=50))],
        *([submission(str(number), model="broken")] for number in range(40)),
    )

    play(port, Models(broken=broken))

    assert tokens(port.events("other"), "long") == expected(50)
    assert all(finishes(port.events(), str(number)) == [Finish.FAILED] for number in range(40))


# Memory


def test_steps_that_run_out_of_memory_end_nothing_and_are_shown(logs: list[MutableMapping[str, Any]]) -> None:
    runner = ScriptedRunner(slots=4)
    runner.memory = 2
    names = "abcd"

    port = play(PlayedPort([LOAD], [submission(name, tokens=20) for name in names]), Models(scripted=runner))

    assert all(tokens(port.events(), name) == expected(20) for name in names)
    failed = [each for each in figures(port.events()) if each.out_of_memory]
    assert len(failed) == sum(entry["event"] == "step_out_of_memory" for entry in logs) >= FAILURES_IN_A_ROW
    assert all(each.batch_rows == 0 for each in failed)


def test_an_engine_without_any_memory_fails_its_sequences_and_lives() -> None:
    runner = ScriptedRunner(slots=2)
    runner.memory = 0
    recover: list[Entry] = [lambda: setattr(runner, "memory", 99)]
    waits: list[list[Entry]] = [[] for _ in range(20)]

    port = play(
        PlayedPort([LOAD], [submission("a"), submission("b")], *waits, recover, [submission("c")]),
        Models(scripted=runner),
    )

    assert finishes(port.events(), "a") == finishes(port.events(), "b") == [Finish.FAILED]
    assert tokens(port.events(), "c") == expected(3)


# Turns


class Timed(ScriptedRunner):
    """Its steps take so many seconds of a clock."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        super().__init__(context_length=1_000)
        self._clock = clock
        self._seconds = seconds

    def run(self, chunks: Items[Chunk]) -> list[Outcome]:
        self._clock[0] += self._seconds
        return super().run(chunks)


@pytest.mark.parametrize(("weight", "steps"), [(1.0, 100), (0.5, 50), (2.0, 200)])
def test_device_time_is_shared_by_weight_and_not_step_by_step(weight: float, steps: int) -> None:
    clock = [0.0]
    small, large = Timed(clock, 1.0), Timed(clock, 10.0)
    loads = [structs.replace(scripted_load("small"), weight=weight), scripted_load("large")]
    streams = [submission(name, model=name, tokens=900) for name in ("small", "large")]
    port = PlayedPort([*loads, *streams], *([] for _ in range(steps + 9)), [Stop()])

    EngineLoop(port, lambda load: {"small": small, "large": large}[load.model], clock=lambda: clock[0]).run()

    assert len(small.steps) == pytest.approx(steps, abs=1)
    assert len(large.steps) == pytest.approx(10, abs=1)


def test_a_model_that_fails_fast_does_not_stop_the_device_before_another_had_its_turn() -> None:
    clock = [0.0]
    broken, slow = Timed(clock, 0.001), Timed(clock, 10.0)
    broken.failures += [RuntimeError("broken")] * 40
    port = PlayedPort(
        [scripted_load("broken"), scripted_load("slow")],
        [("other", submission("long", model="slow", tokens=50))],
        *([submission(str(number), model="broken")] for number in range(40)),
    )

    EngineLoop(port, lambda load: {"broken": broken, "slow": slow}[load.model], clock=lambda: clock[0]).run()

    assert len(tokens(port.events("other"), "long")) == 50
    assert all(finishes(port.events(), str(number)) == [Finish.FAILED] for number in range(40))


def test_a_model_without_any_memory_does_not_hold_up_the_others() -> None:
    clock = [0.0]
    poor, sound = Timed(clock, 0.001), Timed(clock, 1.0)
    poor.memory = 0
    port = PlayedPort(
        [scripted_load("poor"), scripted_load("sound"), submission("long", model="sound", tokens=900)],
        [submission(str(number), model="poor") for number in range(100)],
        *([] for _ in range(60)),
        [Stop()],
    )

    EngineLoop(port, lambda load: {"poor": poor, "sound": sound}[load.model], clock=lambda: clock[0]).run()

    assert len(sound.steps) >= 25


# Steps that overlap


def test_a_runner_that_can_be_ahead_gives_the_same_tokens_and_figures_of_each_step() -> None:
    runner = LateRunner()

    port = play(PlayedPort([LOAD], [submission("a"), submission("b")]), Models(scripted=runner))

    assert [tokens(port.events(), request) for request in "ab"] == [expected(3)] * 2
    assert [step.batch_rows for step in figures(port.events()) if step.batch_rows] == [2, 2, 2]
    assert {step.step_seconds for step in figures(port.events()) if step.batch_rows} == {0.5}
    assert runner.waited == 3


def test_unloading_waits_for_the_step_in_flight() -> None:
    runner = LateRunner()

    port = play(
        PlayedPort([LOAD], [submission("a", tokens=50)], [], [Unload(model="scripted")]), Models(scripted=runner)
    )

    assert finishes(port.events(), "a") == [Finish.ABORTED]
    assert runner.in_flight == []
    assert runner.open_slots == {}


def test_a_token_drawn_in_vain_is_waited_for_before_the_engine_rests() -> None:
    runner = LateRunner()
    abort = Abort(request="a")

    port = play(
        PlayedPort([LOAD], [submission("a", tokens=50)], [], [abort], [], [submission("b")]), Models(scripted=runner)
    )

    assert runner.in_flight == []
    assert tokens(port.events(), "b") == expected(3)
