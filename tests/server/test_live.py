from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager

import pytest
from audits import call_of
from issuer import NOW, PEER
from policies import policy

from sluicegate.auth import AccessRequest, Grant, Principal, Reason
from sluicegate.server.caller import Caller
from sluicegate.server.errors import CallRefused
from sluicegate.server.live import STALLED_SECONDS, CallState, LiveCall, LiveCalls
from sluicegate.server.output import Usage

ALICE = Principal(
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


def a_grant() -> Grant:
    outcome = policy().decide(ALICE, AccessRequest("generate", "gpt2-124m"), PEER, NOW)
    assert isinstance(outcome, Grant)
    return outcome


def entry(live: LiveCalls, request_id: str = "request-1") -> AbstractContextManager[LiveCall]:
    return live.entry(call_of(Caller(ALICE, PEER), policy(), request_id=request_id), a_grant(), Usage(1))


async def hold(live: LiveCalls, entered: asyncio.Event, request_id: str) -> None:
    with entry(live, request_id):
        entered.set()
        await asyncio.Event().wait()


async def held(live: LiveCalls, request_id: str = "request-1") -> asyncio.Task[None]:
    entered = asyncio.Event()
    task = asyncio.create_task(hold(live, entered, request_id))
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


async def test_a_call_that_comes_when_all_were_ended_is_refused_likewise() -> None:
    live = LiveCalls()
    live.end_all(Reason.SERVER_DRAINING)

    with pytest.raises(CallRefused) as refused, entry(live):
        pytest.fail("it began")

    assert refused.value.reason is Reason.SERVER_DRAINING
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


async def test_a_call_that_is_over_is_left_to_answer() -> None:
    live = LiveCalls()

    async def answer() -> str:
        with entry(live) as call:
            asyncio.get_running_loop().call_soon(call.end, CallRefused(Reason.MODEL_NOT_READY))
        await asyncio.sleep(0)
        return "an answer"

    assert await answer() == "an answer"


async def test_a_call_is_found_by_its_id_while_it_is_under_way() -> None:
    live = LiveCalls()
    task = await held(live, "request-1")

    found, other = live.find("request-1"), live.find("request-2")
    task.cancel()
    await asyncio.wait({task})

    assert found is not None
    assert (found.id, other, live.find("request-1")) == ("request-1", None, None)


async def test_a_call_waits_until_it_starts_and_is_stalled_while_its_reader_takes_nothing() -> None:
    with entry(LiveCalls()) as call:
        states = [call.state(0.0)]
        call.start()
        states.append(call.state(0.0))
        call.writing_since = 10.0
        states += [call.state(10.0 + STALLED_SECONDS / 2), call.state(10.0 + STALLED_SECONDS)]
        call.writing_since = None
        states.append(call.state(20.0))

    running = CallState.RUNNING
    assert states == [CallState.QUEUED, running, running, CallState.STALLED, running]
