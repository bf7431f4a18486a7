"""Times against scripted streams whose messages come after known times; no real clock is looked at."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from itertools import islice

import grpc
import pytest
from client_server import delta, finished, started
from google.protobuf import duration_pb2
from scripted_streams import Script, Step, VirtualTime

from sluicegate.client.errors import QuotaExceeded, TokenUnavailable, Unavailable
from sluicegate.client.load.driver import REFUSED_PAUSE_SECONDS, Driver, Plan, ServedUnder
from sluicegate.client.load.histogram import RELATIVE_ERROR, Histogram
from sluicegate.client.load.mix import Mix, Span, poisson
from sluicegate.client.load.tally import Tally

MIX = Mix(shares={"m": 1.0}, vocabularies={"m": 100}, callers=1, prompt=Span(3, 3), output=Span(4, 4), cancel_share=0.0)
CLOSED = Plan(
    concurrency=1, rate=None, warm_up_seconds=0.0, seconds=math.inf, requests=1, max_wait_seconds=None, seed=1
)
# Four tokens after 1.5, 1.75, 2.25 and 2.25 s: the last two in one message.
ANSWER: tuple[Step, ...] = (
    (1.0, started(policy_revision="r1", weights_sha256="ab", queue_duration=duration_pb2.Duration(nanos=250_000_000))),
    (0.5, delta("a", output_tokens=1)),
    (0.25, delta("b", output_tokens=2)),
    (0.5, delta("cd", output_tokens=4)),
    (0.25, finished(output_tokens=4)),
)
OVERLOADED = Unavailable("full", code=grpc.StatusCode.UNAVAILABLE, reason="SERVER_OVERLOADED")
LIMITED = QuotaExceeded("full", code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="RATE", retry_after=0.0)
REFUSED: tuple[Step, ...] = ((0.125, OVERLOADED),)


async def driven(plan: Plan, *streams: tuple[Step, ...], mix: Mix = MIX) -> tuple[Driver, Script]:
    time = VirtualTime()
    script = Script(time, *streams)
    driver = Driver(plan, mix, script, clock=time, sleep=time.sleep)
    await time.pass_for(asyncio.ensure_future(driver.run()))
    assert script.at_once == 0
    return driver, script


def only(driver: Driver) -> Tally:
    (tally,) = driver.tallies.values()
    return tally


def values(histogram: Histogram) -> list[float | None]:
    return [histogram.quantile((place + 1) / histogram.count) for place in range(histogram.count)]


def about(*expected: float) -> object:
    return pytest.approx(list(expected), rel=RELATIVE_ERROR)


async def test_the_parts_of_a_stream_take_what_they_took() -> None:
    driver, _ = await driven(CLOSED, ANSWER)

    tally = only(driver)
    assert values(tally.first_token) == about(1.5)
    assert values(tally.inter_token) == about(0.25, 0.5)
    assert values(tally.per_output_token) == about(0.75 / 3)
    assert values(tally.whole) == about(2.5)
    assert values(tally.queue) == about(0.25)
    assert (tally.begun, tally.answered, tally.unfinished, tally.output_tokens) == (1, 1, 0, 4)
    assert tally.finish_reasons == {"STOP": 1}


async def test_what_served_the_calls_is_known_once_for_each_difference() -> None:
    other = (
        (1.0, started(policy_revision="r2", weights_sha256="ab", agreement="a")),
        *ANSWER[1:],
    )

    driver, _ = await driven(replace(CLOSED, requests=3), ANSWER, ANSWER, other)

    assert driver.served_under == {
        ServedUnder("gpt2-124m", "ab", "s1", "r1", None),
        ServedUnder("gpt2-124m", "ab", "s1", "r2", "a"),
    }


async def test_a_closed_loop_keeps_so_many_streams_busy_and_ends_after_so_many_requests() -> None:
    driver, script = await driven(replace(CLOSED, concurrency=3, requests=7), ANSWER)

    assert script.most_at_once == 3
    assert [at - 1_000 for at, _ in script.requests] == [0, 0, 0, 2.5, 2.5, 2.5, 5.0]
    # Seven answers of four tokens in 7.5 seconds.
    assert (driver.throughput.seconds, driver.throughput.output_tokens, driver.throughput.requests) == (7.5, 28, 7)


async def test_a_run_of_a_given_time_waits_for_what_it_began_but_its_speed_is_of_that_time() -> None:
    driver, script = await driven(replace(CLOSED, requests=math.inf, seconds=4.0), ANSWER)

    assert [at - 1_000 for at, _ in script.requests] == [0, 2.5]
    assert only(driver).answered == 2
    # The second's first token comes when the time is over to the moment, and so does not count.
    assert (driver.throughput.seconds, driver.throughput.output_tokens, driver.throughput.requests) == (4.0, 4, 1)


async def test_requests_of_the_warm_up_do_not_count_but_their_tokens_after_it_do() -> None:
    driver, script = await driven(replace(CLOSED, requests=1, warm_up_seconds=2.0), ANSWER)

    tally = only(driver)
    assert len(script.requests) == 2
    assert (tally.begun, tally.answered, tally.output_tokens) == (1, 1, 4)
    # From 2 s to 5 s: two tokens of the first request, four of the second.
    assert (driver.throughput.seconds, driver.throughput.output_tokens, driver.throughput.requests) == (3.0, 6, 2)
    assert driver.late.count == 1


async def test_an_open_loop_sends_when_requests_are_due_whatever_runs() -> None:
    due = list(islice(poisson(2.0, 1), 6))

    driver, script = await driven(replace(CLOSED, rate=2.0, concurrency=99, requests=6), ANSWER)

    assert [at - 1_000 for at, _ in script.requests] == pytest.approx(due)
    assert script.most_at_once > 1
    assert driver.late.quantile(1) == pytest.approx(0, abs=1e-9)


async def test_an_open_loop_of_a_given_time_is_of_that_time_also_if_its_last_request_ended_before() -> None:
    driver, script = await driven(replace(CLOSED, rate=0.1, concurrency=9, requests=math.inf, seconds=50.0), ANSWER)

    last, _ = script.requests[-1]
    assert last - 1_000 + 2.5 < 50
    assert driver.throughput.seconds == 50
    assert driver.throughput.per_second.count == 50


async def test_the_times_of_an_open_loop_count_from_when_a_request_was_due() -> None:
    due = list(islice(poisson(2.0, 1), 3))
    # One at a time: each waits for those before it.
    begun = [due[0], max(due[1], due[0] + 2.5), max(due[2], due[0] + 5.0)]

    driver, script = await driven(replace(CLOSED, rate=2.0, concurrency=1, requests=3), ANSWER)

    assert [at - 1_000 for at, _ in script.requests] == pytest.approx(begun)
    late = [sent - planned for sent, planned in zip(begun, due, strict=True)]
    assert late[2] > 0
    assert values(only(driver).first_token) == about(*sorted(each + 1.5 for each in late))
    assert driver.late.quantile(1) == pytest.approx(max(late))


async def test_a_cancelled_request_ends_when_its_tokens_have_come() -> None:
    mix = replace(MIX, cancel_share=1.0, output=Span(1, 2))

    driver, _ = await driven(replace(CLOSED, requests=20), ANSWER, mix=mix)

    tally = only(driver)
    assert (tally.cancelled, tally.answered, tally.whole.count) == (20, 0, 0)
    assert {round(each or 0, 1) for each in values(tally.first_token)} == {1.5}
    afters = [request.cancel_after for request in islice(mix.requests(1), 20)]
    assert set(afters) == {1, 2}
    assert tally.inter_token.count == afters.count(2)


async def test_refusals_are_counted_by_reason_and_the_run_goes_on() -> None:
    lost: tuple[Step, ...] = (*ANSWER[:3], (0.5, Unavailable("gone", code=grpc.StatusCode.UNAVAILABLE)))
    without: tuple[Step, ...] = ((0.0, TokenUnavailable("the file is gone")),)

    driver, _ = await driven(replace(CLOSED, requests=5), REFUSED, lost, without, REFUSED, ANSWER)

    tally = only(driver)
    assert tally.refused == {"SERVER_OVERLOADED": 2, "UNAVAILABLE": 1, "TokenUnavailable": 1}
    assert (tally.begun, tally.answered, tally.unfinished) == (5, 1, 0)
    # The stream that broke off had a first token too.
    assert values(tally.first_token) == about(1.5, 1.5)


async def test_a_closed_loop_pauses_after_a_refusal() -> None:
    _, script = await driven(replace(CLOSED, requests=2), REFUSED, ANSWER)

    assert [at - 1_000 for at, _ in script.requests] == pytest.approx([0, 0.125 + REFUSED_PAUSE_SECONDS])


async def test_a_quota_is_waited_for_where_that_is_asked_for() -> None:
    limited: tuple[Step, ...] = ((0.0, LIMITED),)

    patient, asked = await driven(replace(CLOSED, max_wait_seconds=1.0), limited, ANSWER)
    impatient, asked_once = await driven(CLOSED, limited, ANSWER)

    assert (only(patient).begun, only(patient).answered, len(asked.requests)) == (1, 1, 2)
    assert (only(impatient).refused, len(asked_once.requests)) == ({"RATE": 1}, 1)


async def test_a_run_that_is_cancelled_keeps_what_it_has() -> None:
    time = VirtualTime()
    script = Script(time, ANSWER, ((3.0, started()), (100.0, delta("x"))))
    driver = Driver(replace(CLOSED, concurrency=2, requests=math.inf), MIX, script, clock=time, sleep=time.sleep)
    run = asyncio.ensure_future(driver.run())

    async def interrupt() -> None:
        await time.sleep(5.0)
        run.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.gather(time.pass_for(run), interrupt())

    tally = only(driver)
    assert (tally.begun, tally.answered, tally.unfinished) == (3, 1, 2)
    assert driver.throughput.seconds == 5.0
    assert script.at_once == 0
