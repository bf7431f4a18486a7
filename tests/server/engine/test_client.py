from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
import pytest

from sluicegate.server.engine.client import EngineClient
from sluicegate.server.engine.errors import EngineLost, EngineUnavailable, ModelLoadError
from sluicegate.server.engine.messages import (
    LARGEST_COMMAND_BYTES,
    Abort,
    Command,
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
    Started,
    StepEvents,
    Stop,
    Submit,
    Token,
    Unload,
)

T = TypeVar("T")
LOST = EngineLost("it died")
LOAD = Load(model="m", directory="/d", weights_sha256=None, device="cpu", dtype="float32", slots=4, step_tokens=16)
LOADED = Loaded(
    model="m",
    parameters=1,
    context_length=64,
    vocabulary_size=1_000,
    eos_token_id=0,
    weights_sha256="00",
    dtype="float32",
    device="cpu",
    slots=4,
    cache_bytes=1,
    seconds=0.5,
)
FIGURES = Figures(
    model="m", queued=0, running=1, slots=4, batch_rows=1, prefill_tokens=0, cached_tokens=0, step_seconds=0.5
)


class Wire:
    """A client whose engine is the test: `sent` is what it asked for, `tell` answers."""

    def __init__(self, on_figures: Callable[[Figures], None] | None = None) -> None:
        self.sent: list[Command] = []
        decoder = msgspec.msgpack.Decoder(Command)
        self.client = EngineClient(lambda data: self.sent.append(decoder.decode(data)), on_figures)

    def tell(self, *events: Event) -> None:
        self.client.deliver(msgspec.msgpack.encode(StepEvents(list(events))))


def submission(request: str = "a", candidates: int = 1) -> Submit:
    return Submit(request=request, model="m", prompt=[1], sampling=Sampling(), candidates=candidates)


def token(number: int, request: str = "a", candidate: int = 0) -> Token:
    return Token(request=request, candidate=candidate, id=number)


def finished(request: str = "a", candidate: int = 0, finish: Finish = Finish.STOP) -> Finished:
    return Finished(request=request, candidate=candidate, finish=finish)


async def waiting(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that has come to its first wait."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def cancelled(task: asyncio.Task[T]) -> None:
    """Cancel it, and see that it ends so."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Streams


async def test_events_that_pile_up_are_read_at_once_and_in_order() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())

    wire.tell(Started(request="a", queue_seconds=0.0), token(1))
    wire.tell(token(2), finished())

    assert await stream.next() == [Started(request="a", queue_seconds=0.0), token(1), token(2), finished()]
    assert await stream.next() == []


async def test_a_reader_waits_for_the_first_event() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())
    reader = await waiting(stream.next())

    wire.tell(token(1))

    assert await reader == [token(1)]


async def test_iterating_ends_with_the_request() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())
    wire.tell(token(1))
    read: list[Event] = []

    async for events in stream:
        read += events
        if events == [token(1)]:
            wire.tell(token(2), finished())

    assert read == [token(1), token(2), finished()]


async def test_a_stream_gets_the_events_of_its_own_request_only() -> None:
    wire = Wire()
    first, second = await wire.client.submit(submission("a")), await wire.client.submit(submission("b"))

    wire.tell(token(1, "a"), token(2, "b"), token(3, "c"), token(4, "a"))

    assert await first.next() == [token(1, "a"), token(4, "a")]
    assert await second.next() == [token(2, "b")]


async def test_a_request_is_over_when_its_last_candidate_finishes() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission(candidates=2))

    wire.tell(finished(candidate=1))
    over_after_one = stream.is_over
    wire.tell(finished(candidate=0))

    assert not over_after_one
    assert stream.is_over
    assert await stream.next() == [finished(candidate=1), finished(candidate=0)]
    assert await stream.next() == []


async def test_a_refused_request_is_over() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission(candidates=2))

    wire.tell(Refused(request="a", cause="no"))

    assert await stream.next() == [Refused(request="a", cause="no")]
    assert await stream.next() == []


async def test_a_cancelled_read_loses_no_event() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())
    reader = await waiting(stream.next())

    wire.tell(token(1))
    await cancelled(reader)

    assert await stream.next() == [token(1)]


async def test_a_second_reader_is_an_error_and_the_first_goes_on() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())
    reader = await waiting(stream.next())

    with pytest.raises(AssertionError, match="one reader"):
        await stream.next()

    wire.tell(token(1))
    assert await reader == [token(1)]


async def test_a_second_live_request_of_the_same_name_is_an_error_and_is_not_sent() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())

    with pytest.raises(ValueError, match="live already"):
        await wire.client.submit(submission())

    assert wire.sent == [submission()]
    assert not stream.is_over


async def test_a_request_that_no_engine_would_take_off_the_wire_is_refused_unsent() -> None:
    wire = Wire()
    huge = Submit(request="a", model="m", prompt=[1_000_000] * (LARGEST_COMMAND_BYTES // 5), sampling=Sampling())

    stream = await wire.client.submit(huge)

    (event,) = await stream.next()
    assert isinstance(event, Refused)
    assert await stream.next() == []
    assert wire.sent == []


# Aborting and closing


async def test_aborting_asks_and_the_end_comes_as_an_event() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission(candidates=2))

    stream.abort(1)
    stream.abort()
    wire.tell(finished(candidate=1, finish=Finish.ABORTED), finished(candidate=0, finish=Finish.ABORTED))

    assert wire.sent[1:] == [Abort(request="a", candidate=1), Abort(request="a")]
    assert len(await stream.next()) == 2


async def test_aborting_what_has_finished_asks_nothing() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission(candidates=2))
    wire.tell(finished(candidate=1))
    stream.abort(1)
    wire.tell(finished(candidate=0))
    stream.abort()

    assert wire.sent == [submission(candidates=2)]


async def test_closing_aborts_once_and_drops_what_comes_later() -> None:
    wire = Wire()
    async with await wire.client.submit(submission()) as stream:
        wire.tell(token(1))

    await stream.close()
    wire.tell(token(2), finished(finish=Finish.ABORTED))

    assert wire.sent == [submission(), Abort(request="a")]
    assert await stream.next() == []


async def test_closing_a_finished_stream_asks_nothing() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())
    wire.tell(finished())

    await stream.close()

    assert wire.sent == [submission()]


async def test_closing_ends_the_wait_of_a_reader() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())
    reader = await waiting(stream.next())

    await stream.close()

    assert await reader == []


async def test_closing_an_old_stream_leaves_a_new_one_of_its_name_alone() -> None:
    wire = Wire()
    old = await wire.client.submit(submission())
    await old.close()
    new = await wire.client.submit(submission())

    await old.close()
    wire.tell(token(1))

    assert await new.next() == [token(1)]


# Loss


async def test_a_lost_engine_ends_streams_after_what_had_arrived_was_read() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())
    wire.tell(token(1))

    wire.client.lose(LOST)

    assert await stream.next() == [token(1)]
    with pytest.raises(EngineLost, match="it died"):
        await stream.next()
    with pytest.raises(EngineLost):
        await stream.next()


async def test_a_stream_that_had_ended_does_not_see_the_loss() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())
    wire.tell(token(1), finished())

    wire.client.lose(LOST)

    assert await stream.next() == [token(1), finished()]
    assert await stream.next() == []


async def test_a_lost_engine_ends_the_wait_of_readers_loads_pings_and_of_who_waits_for_it() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())
    waits = [
        await waiting(stream.next()),
        await waiting(wire.client.load(LOAD)),
        await waiting(wire.client.unload("n")),
        await waiting(wire.client.score(Score(request="s", model="m", ids=[1, 2]))),
    ]
    watcher = await waiting(wire.client.lost())

    wire.client.lose(LOST)

    assert await asyncio.gather(*waits, return_exceptions=True) == [LOST] * 4
    await watcher


async def test_a_lost_engine_takes_no_requests_and_the_first_cause_stays() -> None:
    wire = Wire()
    wire.client.lose(LOST)
    wire.client.lose(EngineLost("later"))

    with pytest.raises(EngineUnavailable):
        await wire.client.submit(submission())
    with pytest.raises(EngineUnavailable):
        await wire.client.score(Score(request="a", model="m", ids=[1, 2]))
    with pytest.raises(EngineUnavailable):
        wire.client.ping()
    with pytest.raises(EngineLost, match="it died"):
        await wire.client.load(LOAD)
    assert wire.sent == []


async def test_closing_and_aborting_after_the_loss_do_nothing() -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())
    wire.client.lose(LOST)

    stream.abort()
    await stream.close()

    assert wire.sent == [submission()]


async def test_a_lost_engine_is_still_asked_to_stop_for_it_may_run() -> None:
    wire = Wire()
    wire.client.lose(LOST)

    wire.client.stop()

    assert wire.sent == [Stop()]


async def test_what_a_lost_engine_still_says_is_not_heard() -> None:
    heard: list[Figures] = []
    wire = Wire(heard.append)
    wire.client.lose(LOST)

    wire.tell(FIGURES)

    assert heard == []
    assert wire.client.figures == {}


@pytest.mark.parametrize("data", [b"\xc1", msgspec.msgpack.encode(Ping(number=1))], ids=["noise", "a command"])
async def test_an_engine_that_cannot_be_understood_is_lost_since_its_streams_would_wait_for_ever(data: bytes) -> None:
    wire = Wire()
    stream = await wire.client.submit(submission())

    wire.client.deliver(data)

    with pytest.raises(EngineLost):
        await stream.next()
    await wire.client.lost()


# Scoring


async def test_a_score_tells_when_it_holds_its_slot() -> None:
    wire = Wire()
    told: list[str] = []
    score = Score(request="a", model="m", ids=[1, 2])
    scoring = await waiting(wire.client.score(score, on_started=lambda: told.append("started")))

    before = list(told)
    wire.tell(Started(request="a", queue_seconds=0.0))
    wire.tell(Scored(request="a", logprobs=[-1.0], top=[()]))
    await scoring

    assert (before, told) == ([], ["started"])


async def test_scoring_gives_the_last_event() -> None:
    wire = Wire()
    scoring = await waiting(wire.client.score(Score(request="a", model="m", ids=[1, 2])))
    scored = Scored(request="a", logprobs=[-0.5], top=[()])

    wire.tell(Started(request="a", queue_seconds=0.0))
    await asyncio.sleep(0)
    wire.tell(scored)

    assert await scoring == scored
    assert len(wire.sent) == 1


@pytest.mark.parametrize("end", [finished(finish=Finish.DEADLINE), Refused(request="a", cause="too long")])
async def test_a_text_that_is_not_scored_ends_with_the_event_that_says_why(end: Finished | Refused) -> None:
    wire = Wire()
    scoring = await waiting(wire.client.score(Score(request="a", model="m", ids=[1, 2], deadline=1.0)))

    wire.tell(end)

    assert await scoring == end


async def test_a_cancelled_score_is_aborted() -> None:
    wire = Wire()
    scoring = await waiting(wire.client.score(Score(request="a", model="m", ids=[1, 2])))

    await cancelled(scoring)

    assert wire.sent[-1] == Abort(request="a")


# Models, pings and figures


async def test_a_load_gives_what_the_model_is() -> None:
    wire = Wire()
    loading = await waiting(wire.client.load(LOAD))
    assert wire.client.may_be_silent

    wire.tell(LOADED)

    assert await loading == LOADED
    assert not wire.client.may_be_silent


async def test_an_engine_that_answers_in_a_load_is_expected_to_go_on_with_it() -> None:
    wire = Wire()
    before = wire.client.ping()
    loading = await waiting(wire.client.load(LOAD))

    wire.tell(Pong(number=1))  # sent before the engine took the load
    may_be_silent = wire.client.may_be_silent
    within = wire.client.ping()
    wire.tell(Pong(number=2))

    assert (before.done(), within.done()) == (True, True)
    assert (may_be_silent, wire.client.may_be_silent) == (True, False)
    wire.tell(LOADED)
    await loading


async def test_a_failed_load_says_what_to_do() -> None:
    wire = Wire()
    loading = await waiting(wire.client.load(LOAD))

    wire.tell(LoadFailed(model="m", message="m: no such directory"))

    with pytest.raises(ModelLoadError, match="no such directory"):
        await loading


@pytest.mark.parametrize("answer", [LOADED, LoadFailed(model="m", message="m: no such directory")])
async def test_what_a_cancelled_load_gives_is_unloaded_and_taken_for_no_other(answer: Event) -> None:
    wire = Wire()
    await cancelled(await waiting(wire.client.load(LOAD)))
    assert not wire.client.may_be_silent
    with pytest.raises(ModelLoadError, match="m: an earlier load that was given up is not over yet"):
        await wire.client.load(LOAD)

    wire.tell(answer)
    again = await waiting(wire.client.load(LOAD))
    wire.tell(LOADED)

    assert await again == LOADED
    assert wire.sent == [LOAD, *[Unload(model="m")] * isinstance(answer, Loaded), LOAD]


async def test_a_load_that_is_cancelled_when_it_was_answered_is_undone() -> None:
    wire = Wire()
    loading = await waiting(wire.client.load(LOAD))

    wire.tell(LOADED)
    await cancelled(loading)

    assert wire.sent == [LOAD, Unload(model="m")]
    assert not wire.client.may_be_silent


async def test_a_model_is_loaded_once_at_a_time() -> None:
    wire = Wire()
    loading = await waiting(wire.client.load(LOAD))

    with pytest.raises(ValueError, match="under way"):
        await wire.client.load(LOAD)

    wire.tell(LOADED)
    assert await loading == LOADED
    assert wire.sent == [LOAD]


async def test_unloading_returns_when_the_engine_has_done_it_and_drops_the_figures() -> None:
    wire = Wire()
    wire.tell(FIGURES)
    unloading = await waiting(wire.client.unload("m"))

    wire.tell(FIGURES, Pong(number=1))
    await unloading

    assert wire.sent == [Unload(model="m"), Ping(number=1)]
    assert wire.client.figures == {}


async def test_each_ping_waits_for_its_own_answer() -> None:
    wire = Wire()
    first, second = wire.client.ping(), wire.client.ping()

    wire.tell(Pong(number=2), Pong(number=99))

    assert second.done()
    assert not first.done()
    assert wire.sent == [Ping(number=1), Ping(number=2)]


async def test_the_answer_to_a_cancelled_ping_is_ignored() -> None:
    wire = Wire()
    wire.client.ping().cancel()

    wire.tell(Pong(number=1), FIGURES)

    assert wire.client.figures == {"m": FIGURES}


async def test_figures_are_kept_and_passed_on() -> None:
    heard: list[Figures] = []
    wire = Wire(heard.append)

    wire.tell(FIGURES)

    assert heard == [FIGURES]
    assert wire.client.figures == {"m": FIGURES}


async def test_stopping_asks_the_engine_to_end() -> None:
    wire = Wire()

    wire.client.stop()

    assert wire.sent == [Stop()]
