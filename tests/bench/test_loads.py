"""Loads: who is asked when, and what is made of the answers."""

from __future__ import annotations

import asyncio

import pytest

from bench.driving import Answer
from bench.loads import Arrival, Outcome, closed_loop, latency, open_loop, poisson, stall
from bench.work import Request, requests
from sluicegate.client import SluicegateError

WORK = requests(400, "unequal", 1, 1)


async def test_a_closed_loop_asks_everything_once_and_never_more_at_a_time() -> None:
    at_once = most = 0
    asked = list[Request]()

    async def ask(request: Request, _begun: float) -> Answer:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        asked.append(request)
        await asyncio.sleep(0)
        at_once -= 1
        return Answer([1, 2], [0.1, 0.2])

    found = await closed_loop(ask, WORK[:10], 3)

    assert sorted(map(id, asked)) == sorted(map(id, WORK[:10]))
    assert most == 3
    assert (found.answered, found.tokens) == (10, 20)


def test_poisson_arrivals_come_in_order_at_the_rate_that_was_asked_for() -> None:
    found = poisson(WORK, 10.0, partners=3, cancelled_share=0.2)

    times = [arrival.at for arrival in found]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(40, rel=0.15)
    assert [arrival.request for arrival in found] == WORK
    assert {arrival.partner for arrival in found} == {0, 1, 2}
    assert poisson(WORK, 10.0, partners=3, cancelled_share=0.2) == found


def test_a_fifth_of_the_requests_is_cancelled_before_their_end() -> None:
    found = poisson(WORK, 10.0, partners=3, cancelled_share=0.2)

    cancelled = [arrival for arrival in found if arrival.cancel_after is not None]
    assert len(cancelled) == pytest.approx(80, rel=0.3)
    assert all(1 <= (each.cancel_after or 0) <= each.request.output for each in cancelled)


async def test_an_open_loop_counts_what_was_answered_cancelled_and_refused() -> None:
    arrivals = [Arrival(0.0, number, WORK[number], 1 if number in (1, 2) else None) for number in range(4)]

    async def send(arrival: Arrival, _begun: float) -> Answer:
        if arrival.partner == 2:
            raise SluicegateError("overloaded")
        return Answer([5], [0.25])

    found = await open_loop(send, arrivals)

    assert (found.answered, found.cancelled, found.failed) == (2, 1, 1)
    assert found.tokens == 3
    assert found.latency.first_p50 == 250


def test_speeds_are_of_the_whole_time() -> None:
    found = Outcome(30, 2.0, 4, 2, 5, latency([]))

    assert (found.tokens_per_second, found.requests_per_second) == (15, 3)


def test_latency_is_to_the_first_token_and_between_tokens() -> None:
    found = latency([Answer([1, 2, 3], [0.5, 0.75, 1.75]), Answer([1], [0.25]), Answer([], [])])

    assert (found.first_p50, found.first_p99) == (500, 500)
    assert (found.gap_p50, found.gap_longest) == (1000, 1000)


def test_a_stall_is_from_the_long_prompt_to_its_first_token() -> None:
    # The prompt comes at 1.0 and has its first token at 2.0.
    arrivals = [[0.5, 0.75, 1.0, 1.875, 2.5, 3.0], [2.25, 4.0]]

    found = stall(arrivals, 1.0, 2.0)

    assert (found.before_p50, found.before_longest) == (250, 250)
    assert (found.during_p50, found.during_longest) == (875, 875)
    assert found.long_first == 1000
