from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

import pytest
from issuer import FakeClock
from structlog.testing import capture_logs
from templates import unlike

from sluicegate.server.exchanging import EXCHANGE_SECONDS, TOLD_SECONDS, Exchanging
from sluicegate.server.signals.sketches import Figures, Sketches
from sluicegate.server.state import StateUnavailable, Store
from sluicegate.server.state.sketches import Sketch, SketchPage

_Result = TypeVar("_Result")


class FakeBackend:
    """Keeps sketches in memory, two to a page, unless it is down."""

    def __init__(self) -> None:
        self.kept: list[Sketch] = []
        self.is_down = False
        self.fails_with: Exception | None = None

    async def put_sketches(self, source: str, sketches: Mapping[str, bytes]) -> None:
        self._check()
        self.kept += [Sketch(source, partner, data) for partner, data in sketches.items()]

    async def sketches(self, source: str, after: int) -> SketchPage:
        self._check()
        page = self.kept[after : after + 2]
        return SketchPage(tuple(each for each in page if each.source != source), after + len(page))

    async def close(self) -> None: ...

    def _check(self) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        if self.is_down:
            raise StateUnavailable("down")


class Turns:
    """A sleep that ends when a test says so, and by which a test waits for the end of a turn."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._ended = asyncio.Semaphore(0)
        self._begun = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._ended.release()
        await self._begun.acquire()

    async def next(self) -> None:
        """Let the next turn run to its end."""
        self._begun.release()
        await self._ended.acquire()

    async def first(self) -> None:
        await self._ended.acquire()


class Replica:
    """One life of a replica."""

    def __init__(self, backend: FakeBackend) -> None:
        self.clock, self.turns = FakeClock(), Turns()
        self.sketches = Sketches(b"s" * 32)
        self.figures: Mapping[str, Figures] = {}
        self.works = 0
        self.between: Callable[[], None] = lambda: None
        self.exchanging = Exchanging(
            Store(backend, lease_seconds=30.0),  # type: ignore[arg-type]
            self.sketches,
            self._on_thread,
            on_figures=self._take,
            clock=self.clock,
            age_clock=self.clock,
            sleep=self.turns,
        )

    async def _on_thread(self, work: Callable[[], _Result]) -> _Result:
        self.works += 1
        self.between()
        await asyncio.sleep(0)
        return work()

    def see(self, *numbers: int, partner: str = "a") -> None:
        for number in numbers:
            self.sketches.see_prompt(partner, unlike(number), self.clock.now)

    def _take(self, figures: Mapping[str, Figures]) -> None:
        self.figures = figures


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


async def test_each_replica_has_the_figures_of_all(backend: FakeBackend) -> None:
    one, other = Replica(backend), Replica(backend)
    one.see(1, 2)
    other.see(2, 3)
    tasks = [asyncio.create_task(each.exchanging.run()) for each in (one, other)]
    for each in (one, other):
        await each.turns.first()

    await one.turns.next()

    assert one.figures == other.figures == {"a": Figures(0.25, 0.0, 3, 0, 0)}
    assert one.turns.asked == [EXCHANGE_SECONDS] * 2
    for task in tasks:
        await stopped(task)


async def test_own_sketches_are_not_counted_twice(backend: FakeBackend) -> None:
    one = Replica(backend)
    one.see(1)
    task = asyncio.create_task(one.exchanging.run())
    await one.turns.first()

    one.see(2)
    await one.turns.next()

    assert one.figures == {"a": Figures(0.0, 0.0, 2, 0, 0)}
    await stopped(task)


async def test_next_life_of_a_replica_goes_on_with_the_figures_of_the_last(backend: FakeBackend) -> None:
    before, after = Replica(backend), Replica(backend)
    before.see(1, 1, 2)
    await before.exchanging.exchange()

    task = asyncio.create_task(after.exchanging.run())
    await after.turns.first()
    at_start = after.figures
    after.see(1)
    await after.turns.next()

    assert at_start["a"].prompt_duplicate_ratio == pytest.approx(1 / 3)
    assert after.figures["a"] == Figures(0.5, 0.0, 2, 0, 0)
    await stopped(task)


async def test_many_pages_are_read_in_one_turn_and_nothing_twice(backend: FakeBackend) -> None:
    one, other = Replica(backend), Replica(backend)
    for number in range(7):
        one.see(number, partner=f"p{number}")
    await one.exchanging.exchange()

    await other.exchanging.exchange()

    assert len(other.sketches.figures(other.clock.now)) == 7
    backend.kept.clear()
    await other.exchanging.exchange()


async def test_while_the_store_is_silent_figures_go_on_and_what_was_seen_is_told_later(backend: FakeBackend) -> None:
    one, other = Replica(backend), Replica(backend)
    backend.is_down = True
    one.see(1, partner="a")
    with capture_logs() as logs:
        task = asyncio.create_task(one.exchanging.run())
        await one.turns.first()
        one.see(1, partner="b")
        await one.turns.next()
        while_down, age_while_down = one.figures, one.exchanging.age_seconds
        backend.is_down = False
        await one.turns.next()

    await other.exchanging.exchange()

    assert set(while_down) == set(other.sketches.figures(other.clock.now)) == {"a", "b"}
    assert age_while_down is None
    assert [entry["event"] for entry in logs] == ["signals_not_exchanged", "signals_exchanged_again"]
    await stopped(task)


async def test_age_is_that_of_the_last_exchange(backend: FakeBackend) -> None:
    one = Replica(backend)
    await one.exchanging.exchange()
    one.clock.now += 3
    backend.is_down = True

    with pytest.raises(StateUnavailable):
        await one.exchanging.exchange()

    assert one.exchanging.age_seconds == 3


async def test_unreadable_sketch_is_counted_logged_once_and_keeps_nothing_else_back(backend: FakeBackend) -> None:
    one, other = Replica(backend), Replica(backend)
    backend.kept = [Sketch("x", "a", b"nonsense"), Sketch("y", "a", b"\xff"), Sketch("z", "a", b"")]
    one.see(1)
    await one.exchanging.exchange()

    with capture_logs() as logs:
        await other.exchanging.exchange()

    assert one.exchanging.refused == other.exchanging.refused == 3
    assert other.sketches.figures(other.clock.now)["a"].prompts_distinct == 1
    assert [entry["event"] for entry in logs] == ["signals_of_another_replica_unreadable"]


async def test_what_was_seen_last_is_told_when_the_server_stops(backend: FakeBackend) -> None:
    one = Replica(backend)
    task = asyncio.create_task(one.exchanging.run())
    await one.turns.first()

    one.see(1)
    await stopped(task)

    assert [each.partner for each in backend.kept] == ["a"]


async def test_stop_while_the_store_is_down_is_a_stop(backend: FakeBackend) -> None:
    one = Replica(backend)
    task = asyncio.create_task(one.exchanging.run())
    await one.turns.first()
    one.see(1)
    backend.is_down = True

    await stopped(task)

    assert task.cancelled()


async def test_failure_that_nobody_foresaw_is_logged_once_ages_and_ends_nothing(backend: FakeBackend) -> None:
    one = Replica(backend)
    with capture_logs() as logs:
        task = asyncio.create_task(one.exchanging.run())
        await one.turns.first()
        one.see(1)
        backend.fails_with = ZeroDivisionError("of a secret")
        for _ in range(2):
            one.clock.now += 5
            await one.turns.next()
        age, figures = one.exchanging.age_seconds, one.figures
        backend.fails_with = None
        await one.turns.next()

    assert (age, figures, one.exchanging.age_seconds) == (10, {}, 0)
    assert one.figures["a"].prompts_distinct == 1
    assert [entry["event"] for entry in logs].count("signals_exchange_failed") == 1
    assert logs[-1]["event"] == "signals_exchanged_again"
    await stopped(task)


async def test_figures_that_fail_age_too(backend: FakeBackend) -> None:
    one = Replica(backend)
    one.exchanging._on_figures = lambda _: 1 // 0  # type: ignore[assignment]

    task = asyncio.create_task(one.exchanging.run())
    await one.turns.first()

    assert one.exchanging.age_seconds is None
    await stopped(task)


async def test_each_partner_is_work_of_its_own_so_that_texts_pass_in_between(backend: FakeBackend) -> None:
    one = Replica(backend)
    one.see(1, partner="a")
    one.see(1, partner="b")
    task = asyncio.create_task(one.exchanging.run())
    one.between = lambda: one.see(2, partner="a")
    await one.turns.first()

    assert one.works >= 6, "who has changed, and who has figures; and for each of both, its extract and its figures"
    assert one.figures["a"].prompts_distinct == 2
    await stopped(task)


async def test_a_partner_is_put_at_once_and_then_seldom_and_another_does_not_wait(backend: FakeBackend) -> None:
    one = Replica(backend)
    put: list[list[str]] = []
    for partners, seconds in (
        ("a", 0.0),
        ("ab", 5.0),
        ("a", TOLD_SECONDS - 6),
        ("", 1.0),
        ("", 5.0),
        ("", TOLD_SECONDS),
    ):
        one.clock.now += seconds
        for partner in partners:
            one.see(len(put), partner=partner)
        await one.exchanging.exchange()
        put.append([each.partner for each in backend.kept])
        backend.kept.clear()
        one.exchanging._after = 0

    assert put == [["a"], ["b"], [], ["a"], [], []]
