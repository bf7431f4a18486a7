from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
import structlog

from sluicegate.server.signals.watcher import Watcher


@pytest_asyncio.fixture
async def watcher() -> AsyncIterator[Watcher]:
    watcher = Watcher(most_waiting=3)
    yield watcher
    await watcher.close(20)


async def test_work_is_done_by_one_other_thread_in_the_order_in_which_it_came(watcher: Watcher) -> None:
    done: list[tuple[int, int]] = []

    def see(number: int) -> None:
        done.append((number, threading.get_ident()))

    for number in range(3):
        watcher.put(partial(see, number))
    thread = await watcher.run(threading.get_ident)

    assert done == [(number, thread) for number in range(3)]
    assert thread != threading.get_ident()


async def test_what_is_too_much_is_refused_and_later_work_is_not(watcher: Watcher) -> None:
    gate = threading.Event()

    taken = [watcher.put(gate.wait) for _ in range(5)]
    gate.set()
    await watcher.run(lambda: None)

    assert taken == [True, True, True, False, False]
    assert watcher.put(lambda: None)


async def test_work_that_fails_is_logged_and_stops_nothing(watcher: Watcher) -> None:
    def fail() -> None:
        raise ValueError

    with structlog.testing.capture_logs() as logged:
        watcher.put(fail)
        then = await watcher.run(lambda: "next")

    assert then == "next"
    assert [entry["event"] for entry in logged] == ["signal_failed"]


async def test_what_is_waited_for_raises_what_the_work_raised(watcher: Watcher) -> None:
    def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        await watcher.run(fail)


async def test_closing_does_what_waits() -> None:
    watcher, done = Watcher(), list[int]()
    for number in range(100):
        watcher.put(partial(done.append, number))

    is_done = await watcher.close(20)

    assert is_done
    assert done == list(range(100))


async def test_closing_gives_up_on_work_that_does_not_end() -> None:
    watcher, gate = Watcher(), threading.Event()
    watcher.put(gate.wait)

    is_done = await watcher.close(0.01)

    gate.set()
    assert not is_done


async def test_a_caller_who_no_longer_waits_harms_nothing(watcher: Watcher) -> None:
    gate = threading.Event()
    waiting = asyncio.create_task(watcher.run(gate.wait))
    await asyncio.sleep(0)
    waiting.cancel()

    gate.set()

    assert await watcher.run(lambda: "next") == "next"


async def test_what_comes_after_the_close_is_refused() -> None:
    watcher = Watcher()
    await watcher.close(20)

    assert not watcher.put(lambda: None)
