from __future__ import annotations

import asyncio

import pytest
from issuer import NOW, PEER
from policies import policy

from sluicegate.auth import AccessRequest, Grant, Principal, Reason
from sluicegate.server.errors import CallRefused
from sluicegate.server.live import LiveCalls


def a_grant() -> Grant:
    principal = Principal(
        "https://issuer.example",
        "alice",
        "app",
        "token-1",
        "key-1",
        frozenset({"generate:gpt2-124m"}),
        (),
        NOW,
        NOW + 900,
        None,
        None,
        None,
    )
    outcome = policy().decide(principal, AccessRequest("generate", "gpt2-124m"), PEER, NOW)
    assert isinstance(outcome, Grant)
    return outcome


async def hold(live: LiveCalls, entered: asyncio.Event) -> None:
    with live.entry(a_grant()):
        entered.set()
        await asyncio.Event().wait()


async def held(live: LiveCalls) -> asyncio.Task[None]:
    entered = asyncio.Event()
    task = asyncio.create_task(hold(live, entered))
    await entered.wait()
    return task


async def test_a_call_is_ended_where_it_waits_with_the_first_reason() -> None:
    live = LiveCalls()
    task = await held(live)

    live.end_all(Reason.SERVER_DRAINING)
    live.end_all(Reason.INTERNAL)

    with pytest.raises(CallRefused) as caught:
        await task
    assert caught.value.reason is Reason.SERVER_DRAINING
    assert len(live) == 0


async def test_a_cancellation_by_the_client_stays_one() -> None:
    live = LiveCalls()
    task = await held(live)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(live) == 0


async def test_a_cancellation_by_the_client_wins_over_an_end_at_the_same_moment() -> None:
    live = LiveCalls()
    task = await held(live)

    live.end_all(Reason.SERVER_DRAINING)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_end_of_the_last_call_is_told() -> None:
    live = LiveCalls()
    tasks = [await held(live) for _ in range(2)]
    ended = asyncio.create_task(live.ended())

    live.end_all(Reason.SERVER_DRAINING)
    await ended

    assert len(live) == 0
    assert all(isinstance(error, CallRefused) for error in await asyncio.gather(*tasks, return_exceptions=True))


async def test_without_calls_there_is_nothing_to_wait_for() -> None:
    async with asyncio.timeout(1):
        await LiveCalls().ended()
