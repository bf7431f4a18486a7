from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engine_streams import ids, read, read_token, submission
from scripted_runner import ScriptedRunner, count_up, scripted_load

from sluicegate.server.engine.errors import EngineLost, EngineUnavailable, ModelLoadError
from sluicegate.server.engine.loop import FAILURES_IN_A_ROW
from sluicegate.server.engine.messages import Figures, Finish, Finished, Load, Score, Scored
from sluicegate.server.engine.runner import Runner
from sluicegate.server.engine.supervisor import Engine, ModelState
from sluicegate.server.engine.thread import WorkerThread, thread_launcher

Logs = list[MutableMapping[str, Any]]


def engine_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "engine"}


@asynccontextmanager
async def launched(
    runner: ScriptedRunner, on_figures: Callable[[Figures], None] | None = None
) -> AsyncIterator[WorkerThread]:
    """A worker thread with one loaded model; afterwards no thread is left."""
    before = engine_threads()
    worker = await thread_launcher(lambda load: runner)(on_figures)
    assert isinstance(worker, WorkerThread)
    try:
        await worker.client.load(scripted_load())
        yield worker
    finally:
        runner.released.set()
        await worker.stop(60.0)
    assert engine_threads() == before


async def test_tokens_come_from_the_thread() -> None:
    async with launched(ScriptedRunner()) as worker:
        events = await read(await worker.client.submit(submission(tokens=20)))

    assert ids(events) == [count_up(0, 3 + index, (5, 6, 7)) for index in range(20)]


async def test_streams_share_the_steps() -> None:
    runner = ScriptedRunner(slots=4)
    runner.released.clear()
    async with launched(runner) as worker:
        streams = [await worker.client.submit(submission(str(number), tokens=5)) for number in range(4)]
        runner.released.set()

        results = await asyncio.gather(*(read(stream) for stream in streams))

    assert [ids(events) for events in results] == [[count_up(0, 3 + index, (5, 6, 7)) for index in range(5)]] * 4
    assert len(runner.steps) <= 6  # the first one may have begun before all had come


async def test_a_deadline_that_has_passed_ends_a_request_and_a_score_without_a_step() -> None:
    runner = ScriptedRunner()
    async with launched(runner) as worker:
        scored = await worker.client.score(Score(request="b", model="scripted", ids=[1, 2], deadline=0.0))

    assert scored == Finished(request="b", candidate=0, finish=Finish.DEADLINE)
    assert runner.steps == []


async def test_closing_a_stream_frees_its_slot_for_the_next() -> None:
    runner = ScriptedRunner(slots=1, context_length=1_000)
    async with launched(runner) as worker:
        async with await worker.client.submit(submission("long", tokens=900)) as stream:
            await read_token(stream)

        events = await read(await worker.client.submit(submission("next", tokens=2)))

    assert len(ids(events)) == 2
    assert runner.open_slots == {}


async def test_stopping_joins_the_thread_and_loses_its_streams() -> None:
    runner = ScriptedRunner()
    async with launched(runner) as worker:
        runner.released.clear()
        stream = await worker.client.submit(submission())
        await asyncio.to_thread(runner.entered.wait, 30.0)
        stopping = asyncio.create_task(worker.stop(60.0))
        await asyncio.sleep(0)
        runner.released.set()

        await stopping

        await worker.ended()
        with pytest.raises(EngineLost):
            await read(stream)
        with pytest.raises(EngineUnavailable):
            await worker.client.submit(submission())


async def test_a_thread_that_hangs_is_left_after_the_limit_and_its_streams_are_lost(logs: Logs) -> None:
    runner = ScriptedRunner()
    async with launched(runner) as worker:
        runner.released.clear()
        stream = await worker.client.submit(submission())
        await asyncio.to_thread(runner.entered.wait, 30.0)

        await worker.stop(0)

        with pytest.raises(EngineLost, match="hangs"):
            await read(stream)
        assert "engine_thread_hangs" in [entry["event"] for entry in logs]


async def test_an_engine_that_fails_ends_its_streams_and_the_thread(logs: Logs) -> None:
    runner = ScriptedRunner()
    runner.failures += [RuntimeError("broken")] * FAILURES_IN_A_ROW
    async with launched(runner) as worker:
        for number in range(FAILURES_IN_A_ROW):
            await read(await worker.client.submit(submission(str(number))))

        await worker.ended()

        assert logs[-1]["event"] == "engine_failed"


async def test_a_fault_in_taking_events_ends_the_streams_that_would_wait_for_them() -> None:
    def broken(figures: Figures) -> None:
        if figures.batch_rows:
            raise RuntimeError("a fault of ours")

    async with launched(ScriptedRunner(), broken) as worker:
        stream = await worker.client.submit(submission())

        with pytest.raises(EngineLost):
            await read(stream)
        await worker.ended()


async def test_an_engine_over_threads_starts_again_after_a_failure() -> None:
    runners = [ScriptedRunner(), ScriptedRunner()]
    runners[0].failures += [RuntimeError("broken")] * FAILURES_IN_A_ROW
    begun = iter(runners)
    states: asyncio.Queue[ModelState] = asyncio.Queue()

    async def no_delay(seconds: float) -> None:
        """The restart begins at once."""

    engine = Engine(
        [scripted_load()],
        thread_launcher(lambda load: next(begun)),
        on_state=lambda model, state: states.put_nowait(state),
        sleep=no_delay,
    )
    async with engine:
        for number in range(FAILURES_IN_A_ROW):
            await read(await engine.submit(submission(str(number))))
        seen = [await states.get() for _ in range(3)]

        events = await read(await engine.submit(submission(tokens=4)))

    assert seen == [ModelState.SERVING, ModelState.NOT_SERVING, ModelState.SERVING]
    assert len(ids(events)) == 4


async def test_a_start_over_threads_that_fails_leaves_no_thread() -> None:
    before = engine_threads()

    def load(message: Load) -> Runner:
        raise ModelLoadError("no such directory")

    with pytest.raises(ModelLoadError):
        await Engine([scripted_load()], thread_launcher(load)).start()

    for thread in engine_threads() - before:
        thread.join()  # it was asked to end, and does


async def test_a_text_is_scored() -> None:
    async with launched(ScriptedRunner()) as worker:
        scored = await worker.client.score(Score(request="a", model="scripted", ids=[1, 2, 3]))

    assert isinstance(scored, Scored)
    assert len(scored.logprobs) == 2


def test_a_thread_that_outlives_its_event_loop_ends_without_noise(logs: Logs) -> None:
    runner = ScriptedRunner()
    runner.released.clear()
    before = engine_threads()

    async def leave() -> None:
        worker = await thread_launcher(lambda load: runner)(None)
        await worker.client.load(scripted_load())
        await worker.client.submit(submission())
        await asyncio.to_thread(runner.entered.wait, 30.0)
        worker.client.stop()

    asyncio.run(leave())
    (engine,) = engine_threads() - before
    runner.released.set()
    engine.join()

    assert [entry["event"] for entry in logs][-1] == "engine_outlived_its_event_loop"
