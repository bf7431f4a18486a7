"""What every store's ledger does. Imported whole by the modules that have a fixture `fresh_url`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from state_replicas import LAB, LEASE_SECONDS, NEW_YORK, FreshUrl, Replicas, reserved, sharing, unix, used

from sluicegate.auth import Quotas, Reason
from sluicegate.server.state import Account, Quota, Refusal, Reservation, Usage, Wanted, account

BY_DAY = Quotas(output_tokens_per_day=100)
BY_MINUTE = Quotas(output_tokens_per_minute=100)
BOTH = Quotas(output_tokens_per_minute=100, output_tokens_per_day=100)
DAY, MINUTE = Quota.OUTPUT_TOKENS_PER_DAY, Quota.OUTPUT_TOKENS_PER_MINUTE
PLENTY = 10**12


@pytest_asyncio.fixture
async def replicas(fresh_url: FreshUrl) -> AsyncIterator[Replicas]:
    async with sharing(fresh_url()) as opened:
        yield opened


async def test_what_was_asked_for_is_granted_where_there_is_room(replicas: Replicas) -> None:
    store = await replicas.open()

    reservation = await store.reserve(LAB, BOTH, Wanted(output_tokens=60))

    assert isinstance(reservation, Reservation)
    assert (reservation.account, reservation.output_tokens) == (LAB, 60)
    assert await used(store, BOTH) == {MINUTE: 60, DAY: 60}


async def test_what_is_left_is_granted_where_less_is_left(replicas: Replicas) -> None:
    store = await replicas.open()
    await reserved(store, BY_DAY, Wanted(output_tokens=70))

    rest = await reserved(store, BY_DAY, Wanted(output_tokens=60))

    assert rest.output_tokens == 30


async def test_the_smaller_rest_of_minute_and_day_is_granted(replicas: Replicas) -> None:
    store = await replicas.open()

    by_minute = await reserved(
        store, Quotas(output_tokens_per_minute=7, output_tokens_per_day=9), Wanted(output_tokens=50)
    )
    by_day = await reserved(
        store, Quotas(output_tokens_per_minute=50, output_tokens_per_day=12), Wanted(output_tokens=50)
    )

    assert (by_minute.output_tokens, by_day.output_tokens) == (7, 5)


@pytest.mark.parametrize(
    ("quotas", "wanted", "reason", "usage"),
    [
        (
            Quotas(concurrent_streams=1),
            Wanted(),
            Reason.CONCURRENCY_LIMIT,
            Usage(Quota.CONCURRENT_STREAMS, 1, 1, None),
        ),
        (
            Quotas(requests_per_minute=1),
            Wanted(),
            Reason.REQUEST_RATE_LIMIT,
            Usage(Quota.REQUESTS_PER_MINUTE, 1, 1, 40.0),
        ),
        (
            Quotas(output_tokens_per_minute=8),
            Wanted(output_tokens=1),
            Reason.TOKEN_RATE_LIMIT,
            Usage(Quota.OUTPUT_TOKENS_PER_MINUTE, 8, 8, 40.0),
        ),
        (
            Quotas(output_tokens_per_day=8),
            Wanted(output_tokens=1),
            Reason.DAILY_TOKEN_QUOTA,
            Usage(Quota.OUTPUT_TOKENS_PER_DAY, 8, 8, 14 * 3600 - 20.0),
        ),
        (
            Quotas(scored_tokens_per_day=20),
            Wanted(scored_tokens=6),
            Reason.DAILY_TOKEN_QUOTA,
            Usage(Quota.SCORED_TOKENS_PER_DAY, 20, 15, 14 * 3600 - 20.0),
        ),
    ],
    ids=list(Quota),
)
async def test_refusal_names_the_quota_its_use_and_when_it_resets(
    replicas: Replicas, quotas: Quotas, wanted: Wanted, reason: Reason, usage: Usage
) -> None:
    store = await replicas.open()
    await reserved(store, Quotas(), Wanted(output_tokens=8, scored_tokens=15))

    refusal = await store.reserve(LAB, quotas, wanted)

    assert refusal == Refusal(usage)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is reason


async def test_quotas_are_checked_in_the_order_of_their_list(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = {quota.value: 1 for quota in Quota}
    everything = Wanted(output_tokens=1, scored_tokens=1)
    await reserved(store, Quotas(), everything)

    named = []
    while limits:
        refusal = await store.reserve(LAB, Quotas(**limits), everything)
        assert isinstance(refusal, Refusal)
        named.append(refusal.usage.quota)
        del limits[refusal.usage.quota]

    assert named == list(Quota)


async def test_candidates_are_granted_a_token_each_or_refused(replicas: Replicas) -> None:
    store = await replicas.open()
    await reserved(store, BY_DAY, Wanted(output_tokens=97))

    refusal = await store.reserve(LAB, BY_DAY, Wanted(output_tokens=40, least_output_tokens=4))
    rest = await store.reserve(LAB, BY_DAY, Wanted(output_tokens=40, least_output_tokens=3))

    assert isinstance(refusal, Refusal)
    assert isinstance(rest, Reservation)
    assert rest.output_tokens == 3


async def test_settling_books_what_was_emitted_and_gives_back_the_rest(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(concurrent_streams=5, output_tokens_per_minute=100, output_tokens_per_day=100)
    reservation = await reserved(store, limits, Wanted(output_tokens=60))

    await store.settle(reservation, emitted=13)

    assert await used(store, limits) == {Quota.CONCURRENT_STREAMS: 0, MINUTE: 13, DAY: 13}


async def test_settling_twice_is_settling_once(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(output_tokens_per_day=100, scored_tokens_per_day=100)
    reservation = await reserved(store, limits, Wanted(output_tokens=60, scored_tokens=20))

    await store.settle(reservation, emitted=13, scored=20)
    await store.settle(reservation, emitted=13, scored=20)

    assert await used(store, limits) == {DAY: 13, Quota.SCORED_TOKENS_PER_DAY: 20}


async def test_settling_after_progress_books_only_what_is_new(replicas: Replicas) -> None:
    store = await replicas.open()
    reservation = await reserved(store, BOTH, Wanted(output_tokens=60))
    await store.renew({reservation: 10})

    await store.settle(reservation, emitted=13)

    assert await used(store, BOTH) == {MINUTE: 13, DAY: 13}


async def test_progress_does_not_change_what_is_used_in_its_window(replicas: Replicas) -> None:
    store = await replicas.open()
    reservation = await reserved(store, BOTH, Wanted(output_tokens=60))

    await store.renew({reservation: 10})
    await store.renew({reservation: 10})

    assert await used(store, BOTH) == {MINUTE: 60, DAY: 60}


async def test_call_that_came_to_nothing_was_still_a_request(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(requests_per_minute=2)

    await store.settle(await reserved(store, limits, Wanted()))

    assert await used(store, limits) == {Quota.REQUESTS_PER_MINUTE: 1}


async def test_refused_call_is_not_counted(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(requests_per_minute=5, output_tokens_per_day=100)
    await reserved(store, limits, Wanted(output_tokens=100))

    await store.reserve(LAB, limits, Wanted(output_tokens=1))

    assert await used(store, limits) == {Quota.REQUESTS_PER_MINUTE: 1, DAY: 100}


async def test_requests_are_counted_anew_each_minute(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(requests_per_minute=1)
    await reserved(store, limits, Wanted())

    replicas.clock.now += 40

    assert isinstance(await store.reserve(LAB, limits, Wanted()), Reservation)


async def test_scored_tokens_are_granted_whole_or_not_at_all(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(scored_tokens_per_day=100)

    first = await store.reserve(LAB, limits, Wanted(scored_tokens=70))
    second = await store.reserve(LAB, limits, Wanted(scored_tokens=31))
    third = await store.reserve(LAB, limits, Wanted(scored_tokens=30))

    assert isinstance(first, Reservation)
    assert isinstance(second, Refusal)
    assert isinstance(third, Reservation)
    assert (first.scored_tokens, first.output_tokens) == (70, 0)


async def test_scoring_that_failed_gives_its_tokens_back(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(scored_tokens_per_day=100)
    reservation = await reserved(store, limits, Wanted(scored_tokens=70))

    await store.settle(reservation)

    assert await used(store, limits) == {Quota.SCORED_TOKENS_PER_DAY: 0}


async def test_full_output_quota_does_not_stop_scoring(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(output_tokens_per_day=10, scored_tokens_per_day=10)
    await reserved(store, limits, Wanted(output_tokens=10))

    assert isinstance(await store.reserve(LAB, limits, Wanted(scored_tokens=10)), Reservation)


async def test_reservation_counts_in_every_window_until_it_is_settled(replicas: Replicas) -> None:
    store = await replicas.open()
    reservation = await reserved(store, BOTH, Wanted(output_tokens=60))

    for _ in range(3):
        replicas.clock.now += LEASE_SECONDS - 1
        await store.renew({reservation: 0})

    assert await used(store, BOTH) == {MINUTE: 60, DAY: 60}


async def test_tokens_known_before_a_minute_began_do_not_count_in_it(replicas: Replicas) -> None:
    store = await replicas.open()
    reservation = await reserved(store, BOTH, Wanted(output_tokens=60))
    replicas.clock.now = unix("2026-02-02T15:00:40")
    await store.renew({reservation: 45})

    replicas.clock.now = unix("2026-02-02T15:01:00")

    assert await used(store, BOTH) == {MINUTE: 15, DAY: 60}


async def test_tokens_first_told_of_after_a_border_count_after_it(replicas: Replicas) -> None:
    store = await replicas.open()
    replicas.clock.now = unix("2026-02-02T15:00:50")
    reservation = await reserved(store, BOTH, Wanted(output_tokens=60))

    replicas.clock.now = unix("2026-02-02T15:01:00")
    await store.settle(reservation, emitted=45)

    assert await used(store, BOTH) == {MINUTE: 45, DAY: 45}


async def test_reservation_that_is_not_renewed_frees_its_place_and_stays_charged(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(concurrent_streams=1, output_tokens_per_day=100)
    reservation = await reserved(store, limits, Wanted(output_tokens=60))
    await store.renew({reservation: 5})

    replicas.clock.now += LEASE_SECONDS
    next_one = await store.reserve(LAB, limits, Wanted(output_tokens=60))

    assert isinstance(next_one, Reservation)
    assert next_one.output_tokens == 40


async def test_lease_holds_up_to_its_last_moment(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(concurrent_streams=1)
    await reserved(store, limits, Wanted())

    replicas.clock.now += LEASE_SECONDS - 0.001

    assert isinstance(await store.reserve(LAB, limits, Wanted()), Refusal)


async def test_scored_tokens_that_lapsed_stay_charged(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(scored_tokens_per_day=100)
    await reserved(store, limits, Wanted(scored_tokens=70))

    replicas.clock.now += LEASE_SECONDS

    assert await used(store, limits) == {Quota.SCORED_TOKENS_PER_DAY: 70}


async def test_lapsed_tokens_are_charged_to_the_windows_in_which_they_lapsed(replicas: Replicas) -> None:
    store = await replicas.open()
    await reserved(store, BOTH, Wanted(output_tokens=60))  # at :20, so it lapses at :50

    replicas.clock.now = unix("2026-02-02T15:00:59")
    in_this_minute = await used(store, BOTH)
    replicas.clock.now = unix("2026-02-02T15:01:00")
    in_the_next = await used(store, BOTH)

    assert in_this_minute == {MINUTE: 60, DAY: 60}
    assert in_the_next == {MINUTE: 0, DAY: 60}


async def test_settling_what_has_lapsed_changes_nothing(replicas: Replicas) -> None:
    store = await replicas.open()
    reservation = await reserved(store, BY_DAY, Wanted(output_tokens=60))

    replicas.clock.now += LEASE_SECONDS
    await store.settle(reservation, emitted=5)

    assert await used(store, BY_DAY) == {DAY: 60}


async def test_renewing_tells_which_reservations_have_lapsed(replicas: Replicas) -> None:
    store = await replicas.open()
    other = account("public", "https://issuer.example", "someone", zone=ZoneInfo("UTC"))
    kept = await reserved(store, Quotas(), Wanted(output_tokens=1))
    settled = await reserved(store, Quotas(), Wanted(output_tokens=1))
    forgotten = await reserved(store, Quotas(), Wanted(output_tokens=1), other)
    await store.settle(settled)
    replicas.clock.now += LEASE_SECONDS - 1
    await store.renew({kept: 0})

    replicas.clock.now += 1
    lapsed = await store.renew({kept: 0, settled: 0, forgotten: 0})

    assert lapsed == {settled, forgotten}


async def test_renewing_nothing_is_nothing(replicas: Replicas) -> None:
    store = await replicas.open()

    assert await store.renew({}) == frozenset()


async def test_replicas_share_one_ledger(replicas: Replicas) -> None:
    one, other = await replicas.open(), await replicas.open()
    reservation = await reserved(one, BY_DAY, Wanted(output_tokens=60))
    seen_by_other = await used(other, BY_DAY)

    await other.settle(reservation, emitted=1)

    assert seen_by_other == {DAY: 60}
    assert await used(one, BY_DAY) == {DAY: 1}


async def test_ledger_outlives_its_replicas(replicas: Replicas) -> None:
    first = await replicas.open()
    reservation = await reserved(first, BY_DAY, Wanted(output_tokens=60))
    await first.close()

    second = await replicas.open()
    await second.settle(reservation, emitted=7)

    assert await used(second, BY_DAY) == {DAY: 7}


async def test_a_hundred_simultaneous_starts_share_four_places_and_a_hundred_tokens(replicas: Replicas) -> None:
    stores = [await replicas.open() for _ in range(3)]
    limits = Quotas(concurrent_streams=4, output_tokens_per_minute=100)

    outcomes = await asyncio.gather(*(stores[i % 3].reserve(LAB, limits, Wanted(output_tokens=40)) for i in range(100)))

    granted = [outcome.output_tokens for outcome in outcomes if isinstance(outcome, Reservation)]
    reasons = {outcome.reason for outcome in outcomes if isinstance(outcome, Refusal)}
    assert sorted(granted) == [20, 40, 40]
    assert reasons == {Reason.TOKEN_RATE_LIMIT}


async def test_accounts_are_counted_apart(replicas: Replicas) -> None:
    store = await replicas.open()
    names = [("a", "b"), ("a/b",), ("a", "b", ""), ("a%2Fb",), ("a}b",), ("ä",), ("agreement", "a")]
    accounts = [account("public", *name, zone=NEW_YORK) for name in names]

    for tokens, by in enumerate(accounts, start=1):
        await reserved(store, BY_DAY, Wanted(output_tokens=tokens), by)

    assert [(await used(store, BY_DAY, by))[DAY] for by in accounts] == [1, 2, 3, 4, 5, 6, 7]


async def test_usage_lists_the_quotas_that_have_a_limit(replicas: Replicas) -> None:
    store = await replicas.open()
    await reserved(store, Quotas(), Wanted(output_tokens=8, scored_tokens=15))

    usage = await store.usage(LAB, Quotas(concurrent_streams=3, output_tokens_per_day=PLENTY, output_tokens_per_call=9))

    assert usage == (
        Usage(Quota.CONCURRENT_STREAMS, 3, 1, None),
        Usage(Quota.OUTPUT_TOKENS_PER_DAY, PLENTY, 8, 14 * 3600 - 20.0),
    )


async def test_usage_of_a_stranger_is_nothing(replicas: Replicas) -> None:
    store = await replicas.open()

    assert await used(store, BOTH) == {MINUTE: 0, DAY: 0}


async def test_largest_quota_is_counted_to_the_token(replicas: Replicas) -> None:
    store = await replicas.open()
    limits = Quotas(output_tokens_per_day=PLENTY)
    await reserved(store, limits, Wanted(output_tokens=PLENTY - 1))

    last = await reserved(store, limits, Wanted(output_tokens=2))

    assert last.output_tokens == 1
    assert await used(store, limits) == {DAY: PLENTY}


@pytest.mark.parametrize(
    ("midnight", "hours"),
    [("2026-02-02T05:00", 24), ("2026-03-08T05:00", 23), ("2026-11-01T04:00", 25)],
    ids=["an ordinary day", "the clocks go forward", "the clocks go back"],
)
async def test_day_lasts_from_midnight_to_midnight_in_the_zone(replicas: Replicas, midnight: str, hours: int) -> None:
    store = await replicas.open()
    start = unix(midnight)
    end = start + hours * 3600
    replicas.clock.now = start - 1
    await store.settle(await reserved(store, BY_DAY, Wanted(output_tokens=100)), emitted=100)

    replicas.clock.now = start
    (new_day,) = await store.usage(LAB, BY_DAY)
    await store.settle(await reserved(store, BY_DAY, Wanted(output_tokens=100)), emitted=100)
    replicas.clock.now = end - 1
    last_second = await store.reserve(LAB, BY_DAY, Wanted(output_tokens=1))
    replicas.clock.now = end
    next_day = await store.reserve(LAB, BY_DAY, Wanted(output_tokens=100))

    assert (new_day.used, new_day.resets_in_seconds) == (0, hours * 3600)
    assert last_second == Refusal(Usage(DAY, 100, 100, 1.0))
    assert isinstance(next_day, Reservation)


async def test_clock_that_is_set_back_stands_still_until_it_has_caught_up(replicas: Replicas) -> None:
    store = await replicas.open()
    await store.settle(await reserved(store, BY_MINUTE, Wanted(output_tokens=100)), emitted=100)
    replicas.clock.now += 60
    await store.settle(await reserved(store, BY_MINUTE, Wanted(output_tokens=100)), emitted=100)

    replicas.clock.now -= 60
    refusal = await store.reserve(LAB, BY_MINUTE, Wanted(output_tokens=1))

    assert refusal == Refusal(Usage(MINUTE, 100, 100, 40.0))


async def test_new_time_zone_takes_the_running_day_along(replicas: Replicas) -> None:
    store = await replicas.open()
    await store.settle(await reserved(store, BY_DAY, Wanted(output_tokens=100)), emitted=100)
    moved = Account(LAB.key, ZoneInfo("Asia/Tokyo"))  # where it is the 3rd already, since 0 hours and 20 seconds

    refusal = await store.reserve(moved, BY_DAY, Wanted(output_tokens=1))
    replicas.clock.now = unix("2026-02-03T15:00")
    next_day = await store.reserve(moved, BY_DAY, Wanted(output_tokens=1))

    assert refusal == Refusal(Usage(DAY, 100, 100, 24 * 3600 - 20.0))
    assert isinstance(next_day, Reservation)


async def test_reservation_whose_caller_was_cancelled_is_given_back(replicas: Replicas) -> None:
    store, other = await replicas.open(), await replicas.open()
    limits = Quotas(concurrent_streams=1, requests_per_minute=5, output_tokens_per_day=100)
    reserving = asyncio.create_task(store.reserve(LAB, limits, Wanted(output_tokens=60)))
    await asyncio.sleep(0)

    reserving.cancel()
    await asyncio.wait([reserving])
    await store.close()  # which finishes what was begun

    assert reserving.cancelled()
    assert await used(other, limits) == {Quota.CONCURRENT_STREAMS: 0, Quota.REQUESTS_PER_MINUTE: 1, DAY: 0}


async def test_settling_goes_on_when_its_caller_is_cancelled(replicas: Replicas) -> None:
    store, other = await replicas.open(), await replicas.open()
    reservation = await reserved(store, BY_DAY, Wanted(output_tokens=60))
    settling = asyncio.create_task(store.settle(reservation, emitted=5))
    await asyncio.sleep(0)

    settling.cancel()
    await asyncio.wait([settling])
    await store.close()

    assert settling.cancelled()
    assert await used(other, BY_DAY) == {DAY: 5}
