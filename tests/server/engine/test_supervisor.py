from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping, Sequence
from typing import Any

import pytest
from engine_lives import Answer, Lives, failed, loaded, settle, silent
from engine_streams import submission
from msgspec import structs
from scripted_runner import scripted_load

from sluicegate.server.engine.errors import EngineLost, EngineUnavailable, ModelLoadError
from sluicegate.server.engine.messages import (
    Event,
    Figures,
    Load,
    Ping,
    Pong,
    Score,
    Scored,
    Speculation,
    Token,
    Unload,
)
from sluicegate.server.engine.supervisor import (
    FIRST_DELAY_SECONDS,
    HEALTHY_SECONDS,
    LONGEST_DELAY_SECONDS,
    STRICT_TRIES,
    Engine,
    Limits,
    ModelState,
)

FIGURES = Figures(
    model="one", queued=0, running=1, slots=4, batch_rows=1, prefill_tokens=0, cached_tokens=0, step_seconds=0.5
)


class Bench:
    """An engine of two models over scripted lives. `naps`: the delays that it slept."""

    def __init__(self, *answers: Answer, limits: Limits | None = None) -> None:
        self.lives = Lives(*answers)
        self.now = 0.0
        self.naps: list[float] = []
        self.may_wake = asyncio.Event()
        self.may_wake.set()
        self.states: list[tuple[str, ModelState]] = []
        self.figures: list[Figures] = []
        self.restarts = 0
        self.engine = Engine(
            [scripted_load("one"), scripted_load("two")],
            self.lives.launch,
            limits=limits,
            on_figures=self.figures.append,
            on_state=lambda model, state: self.states.append((model, state)),
            on_restart=self.count_restart,
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def count_restart(self) -> None:
        self.restarts += 1

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        await self.may_wake.wait()


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()


SERVING = [("one", ModelState.SERVING), ("two", ModelState.SERVING)]
NOT_SERVING = [("one", ModelState.NOT_SERVING), ("two", ModelState.NOT_SERVING)]


# Starting


async def test_a_started_engine_has_loaded_every_model_and_says_so() -> None:
    bench = Bench()

    async with bench.engine:
        assert bench.lives.last.sent == [scripted_load("one"), scripted_load("two")]
        assert bench.states == SERVING
        assert bench.engine.models == ("one", "two")
        assert bench.engine.states == dict(SERVING)
        assert bench.engine.facts("one") == loaded(scripted_load("one"))
        assert bench.engine.facts("three") is None


async def test_before_its_start_an_engine_answers_for_no_model() -> None:
    bench = Bench()

    assert bench.engine.states == dict(NOT_SERVING)
    assert bench.engine.facts("one") is None
    assert bench.engine.figures == {}
    with pytest.raises(EngineUnavailable):
        await bench.engine.submit(submission(model="one"))


async def test_a_model_that_cannot_be_loaded_fails_the_start_and_nothing_is_left_running() -> None:
    def only_the_first(load: Load) -> Event | None:
        return loaded(load) if load.model == "one" else failed(load)

    bench = Bench(only_the_first)

    with pytest.raises(ModelLoadError, match="two: no such directory"):
        await bench.engine.start()

    assert bench.lives.last.stops == [0]
    assert bench.states == []
    assert bench.engine.facts("one") is None


async def test_a_model_that_takes_too_long_to_load_fails_the_start() -> None:
    bench = Bench(silent, limits=Limits(load_seconds=0.0))

    with pytest.raises(ModelLoadError, match="one: not loaded within"):
        await bench.engine.start()

    assert bench.lives.last.stops == [0]


async def test_a_worker_that_dies_between_two_loads_fails_the_start() -> None:
    def answer_and_die(load: Load) -> Event | None:
        asyncio.get_running_loop().call_soon(bench.lives.last.tell, loaded(load))
        asyncio.get_running_loop().call_soon(bench.lives.last.die)
        return None

    bench = Bench(answer_and_die)

    with pytest.raises(EngineLost):
        await bench.engine.start()


async def test_a_cancelled_start_leaves_nothing_running() -> None:
    bench = Bench(silent)
    starting = asyncio.create_task(bench.engine.start())
    await settle()

    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert bench.lives.last.stops == [0]
    assert bench.states == []


# Working


async def test_requests_go_to_the_worker() -> None:
    bench = Bench()
    async with bench.engine:
        stream = await bench.engine.submit(submission("a", model="two"))
        bench.lives.last.tell(Token(request="a", candidate=0, id=1))

        scored = await bench.engine.score(Score(request="b", model="one", ids=[1, 2]))

        assert await stream.next() == [Token(request="a", candidate=0, id=1)]
        assert scored == Scored(request="b", logprobs=[-0.5], top=[()])


async def test_a_model_that_is_not_hosted_is_unavailable() -> None:
    bench = Bench()
    async with bench.engine:
        with pytest.raises(EngineUnavailable, match="three"):
            await bench.engine.submit(submission(model="three"))


async def test_figures_are_kept_and_passed_on() -> None:
    bench = Bench()
    async with bench.engine:
        bench.lives.last.tell(FIGURES)

        assert bench.engine.figures == {"one": FIGURES}
        assert bench.figures == [FIGURES]


# Restarting


async def test_an_engine_that_dies_is_restarted_and_its_models_tell_of_both() -> None:
    bench = Bench()
    async with bench.engine:
        stream = await bench.engine.submit(submission(model="one"))
        bench.lives.last.tell(FIGURES)

        bench.lives.last.die()
        await settle()

        with pytest.raises(EngineLost):
            await stream.next()
        assert bench.states == SERVING + NOT_SERVING + SERVING
        assert bench.restarts == 1
        assert bench.naps == [FIRST_DELAY_SECONDS]
        assert [life.stops for life in bench.lives.all] == [[0], []]
        assert bench.engine.figures == {}
        await bench.engine.submit(submission(model="one"))
        assert len(bench.lives.last.sent) == 3


async def test_while_an_engine_is_down_its_models_are_unavailable() -> None:
    bench = Bench()
    async with bench.engine:
        bench.may_wake.clear()
        bench.lives.last.die()
        with pytest.raises(EngineUnavailable):  # before the supervisor has had its turn
            await bench.engine.submit(submission(model="one"))
        await settle()

        assert bench.engine.states == dict(NOT_SERVING)
        assert bench.engine.facts("one") is None
        assert bench.engine.figures == {}
        with pytest.raises(EngineUnavailable):
            await bench.engine.submit(submission(model="one"))


async def test_the_next_try_waits_twice_as_long_up_to_a_limit() -> None:
    bench = Bench(loaded, *[failed] * 8, loaded)
    async with bench.engine:
        bench.lives.last.die()
        await settle()
        await settle()

        assert bench.naps == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, *[LONGEST_DELAY_SECONDS] * 3]
        assert bench.engine.states == dict(SERVING)
        assert [life.stops for life in bench.lives.all] == [[0]] * 9 + [[]]
        assert bench.restarts == 1


async def test_after_some_tries_an_engine_does_without_a_model_that_cannot_be_loaded(
    logs: list[MutableMapping[str, Any]],
) -> None:
    def only_the_second(load: Load) -> Event | None:
        return loaded(load) if load.model == "two" else failed(load)

    bench = Bench(loaded, *[only_the_second] * (STRICT_TRIES + 1))
    async with bench.engine as engine:
        bench.lives.last.die()
        await settle()
        await settle()

        assert len(bench.naps) == STRICT_TRIES + 1
        assert engine.states == {"one": ModelState.NOT_SERVING, "two": ModelState.SERVING}
        assert [entry["problem"] for entry in logs if entry["event"] == "model_not_loaded_again"] == [
            "one: no such directory"
        ]
        assert list(engine.unloaded) == []

        bench.lives.last.answer = loaded
        await engine.load(scripted_load("one"))

        assert engine.states == dict(SERVING)


@pytest.mark.parametrize(
    ("lives", "naps"),
    [
        ([1.0, 1.0, 1.0], [0.5, 1.0, 2.0]),
        ([1.0, 1.0, HEALTHY_SECONDS, 1.0], [0.5, 1.0, 0.5, 1.0]),
    ],
    ids=["short lives", "a long life in between"],
)
async def test_only_a_long_life_starts_the_delays_from_the_beginning(
    lives: Sequence[float], naps: Sequence[float]
) -> None:
    bench = Bench()
    async with bench.engine:
        for lived in lives:
            await settle()
            bench.now += lived
            bench.lives.last.die()
        await settle()

        assert bench.naps == naps


async def test_a_launch_that_fails_is_tried_again() -> None:
    bench = Bench()
    async with bench.engine:
        bench.lives.errors.append(OSError("no more processes"))
        bench.lives.last.die()
        await settle()

        assert bench.naps == [0.5, 1.0]
        assert bench.engine.states == dict(SERVING)


async def test_a_callback_that_raises_is_told_of_and_the_engine_can_still_be_closed(
    logs: list[MutableMapping[str, Any]],
) -> None:
    lives = Lives()

    def broken() -> None:
        raise RuntimeError("a fault of ours")

    engine = Engine([scripted_load()], lives.launch, on_restart=broken)
    await engine.start()
    lives.last.die()
    await settle()

    await engine.aclose()

    assert [entry["event"] for entry in logs] == ["engine_lost", "engine_supervision_failed"]
    assert lives.last.stops == [0]


# Closing


async def test_closing_stops_the_worker_in_its_time_and_ends_the_streams() -> None:
    bench = Bench(limits=Limits(stop_seconds=7.0))
    await bench.engine.start()
    stream = await bench.engine.submit(submission(model="one"))

    await bench.engine.aclose()
    await bench.engine.aclose()

    assert bench.lives.last.stops == [7.0]
    assert bench.states == SERVING + NOT_SERVING
    assert bench.restarts == 0
    with pytest.raises(EngineLost):
        await stream.next()
    with pytest.raises(EngineUnavailable):
        await bench.engine.submit(submission(model="one"))


async def test_closing_right_after_the_start_stops_the_worker() -> None:
    bench = Bench()
    await bench.engine.start()

    await bench.engine.aclose()

    assert len(bench.lives.last.stops) == 1


async def test_closing_while_a_restart_waits_for_its_time_ends_it() -> None:
    bench = Bench()
    await bench.engine.start()
    bench.may_wake.clear()
    bench.lives.last.die()
    await settle()

    await bench.engine.aclose()

    assert len(bench.lives.all) == 1
    assert bench.states == SERVING + NOT_SERVING


async def test_closing_while_a_restart_loads_stops_the_new_worker() -> None:
    bench = Bench(loaded, silent)
    await bench.engine.start()
    bench.lives.last.die()
    await settle()

    await bench.engine.aclose()

    assert [life.stops for life in bench.lives.all] == [[0], [0]]
    assert bench.states == SERVING + NOT_SERVING


async def test_a_cancel_of_the_closing_is_not_lost_while_a_dead_worker_is_reaped() -> None:
    bench = Bench()
    await bench.engine.start()
    dead = bench.lives.last
    dead.may_stop.clear()
    dead.die()
    await settle()
    closing = asyncio.create_task(bench.engine.aclose())
    await settle()

    closing.cancel()
    await settle()
    dead.may_stop.set()
    await asyncio.wait({closing})
    await settle()

    assert closing.cancelled()
    assert dead.stops == [0]
    assert len(bench.lives.all) == 1


# Unloading and loading again


async def test_a_retired_model_takes_nothing_more_and_is_then_unloaded() -> None:
    bench = Bench()

    async with bench.engine as engine:
        engine.retire("one")
        with pytest.raises(EngineUnavailable):
            await engine.submit(submission(model="one"))
        unloading = asyncio.create_task(engine.unload("one"))
        await settle()
        bench.lives.last.tell(Pong(number=1))
        await unloading

        assert bench.lives.last.sent[-2:] == [Unload(model="one"), Ping(number=1)]
        assert bench.states == [*SERVING, ("one", ModelState.NOT_SERVING)]
        assert list(engine.unloaded) == ["one"]


async def test_a_model_is_loaded_again_as_it_is_asked_for_and_stays_so() -> None:
    bench, anew = Bench(), scripted_load("one", slots=2)

    async with bench.engine as engine:
        engine.retire("one")

        facts = await engine.load(anew)
        again = await engine.load(anew)

        assert facts == again == loaded(anew)
        assert bench.lives.last.sent[2:] == [anew]
        assert (engine.unloaded, engine.states) == ({}, dict(SERVING))


async def test_a_load_that_fails_leaves_the_model_out_and_the_others_in() -> None:
    def not_slots_of_two(load: Load) -> Event | None:
        return failed(load) if load.slots == 2 else loaded(load)

    bench = Bench(not_slots_of_two)

    async with bench.engine as engine:
        engine.retire("one")

        with pytest.raises(ModelLoadError, match="one: no such directory"):
            await engine.load(scripted_load("one", slots=2))

        assert (list(engine.unloaded), engine.facts("one")) == (["one"], None)
        assert engine.facts("two") is not None


async def test_a_worker_that_is_restarted_is_not_asked_for_what_was_unloaded() -> None:
    bench = Bench()

    async with bench.engine as engine:
        engine.retire("one")
        bench.lives.last.die()
        await settle()

        assert bench.lives.last.sent == [scripted_load("two")]
        assert engine.restarts == 1
        assert engine.states == {"one": ModelState.NOT_SERVING, "two": ModelState.SERVING}


async def test_a_worker_that_is_restarted_gives_each_model_its_share_of_the_start() -> None:
    bench = Bench()

    async with bench.engine as engine:
        engine.retire("one")
        await engine.load(structs.replace(scripted_load("one", slots=2), memory_share=0.5))
        bench.lives.last.die()
        await settle()

        assert bench.lives.last.sent[0] == scripted_load("one", slots=2)


async def test_models_that_are_retired_in_turn_while_a_worker_comes_up_stay_out() -> None:
    bench = Bench(loaded, silent)

    async with bench.engine as engine:
        bench.lives.last.die()
        await settle()
        life = bench.lives.last
        engine.retire("one")
        for model in ("one", "two"):
            life.tell(loaded(scripted_load(model)))
            await settle()
        engine.retire("two")
        for number in (1, 2):
            life.tell(Pong(number=number))
            await settle()

        assert life.sent[2:] == [Unload(model="one"), Ping(number=1), Unload(model="two"), Ping(number=2)]
        assert engine.is_alive
        assert engine.states == dict(NOT_SERVING)


async def test_who_drafts_for_a_model_is_known() -> None:
    drafted = scripted_load("two", speculation=Speculation(draft="one", tokens=3))
    engine = Engine([scripted_load("one"), drafted], Lives().launch)

    assert (engine.drafter("one"), engine.drafter("two")) == (None, "one")
