"""State in a real Redis: the suites of every store, and what only a server does: stop, hang, restart, forget."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import closing

import pytest
from certificates import Authority
from redis_server import DATABASES, RedisServer, redis_server
from state_anchors_suite import *  # noqa: F403
from state_findings_suite import *  # noqa: F403
from state_findings_suite import finding
from state_kill_suite import *  # noqa: F403
from state_ledger_suite import *  # noqa: F403
from state_random_suite import *  # noqa: F403
from state_replicas import LAB, FreshUrl, reserved, used
from state_sketches_suite import *  # noqa: F403
from state_withdrawals_suite import *  # noqa: F403

from sluicegate.auth import Quotas
from sluicegate.server.state import (
    Bound,
    FindingStatus,
    HistoryLost,
    ModelTarget,
    Quota,
    Review,
    StateUnavailable,
    Store,
    StoreUnsuitable,
    Wanted,
    Withdrawal,
    open_store,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BY_DAY = Quotas(output_tokens_per_day=100)
ENTRY = Withdrawal("w-1", ModelTarget("gpt2-1558m"), 1_770_000_000, "Misuse.", "operator-1")
SECONDS = 20.0  # several times what four calls may take: only to tell an answer from none


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for tests that take a database each."""
    with redis_server(tmp_path_factory.mktemp("redis"), "--databases", str(DATABASES)) as server:
        yield server


@pytest.fixture
def fresh_url(shared: RedisServer) -> FreshUrl:
    return shared.fresh_url


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for one test, which may do to it what it likes."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


async def refuse_all(store: Store) -> None:
    """Every call says in time that the store is unavailable."""
    async with asyncio.timeout(SECONDS):
        for call in (
            store.reserve(LAB, BY_DAY, Wanted(output_tokens=1)),
            store.usage(LAB, BY_DAY),
            store.withdraw(ENTRY),
            store.entries(),
            store.put_sketches("life-1", {"a": b"1"}),
            store.sketches("life-1"),
            store.file_finding(finding()),
            store.finding("f"),
            store.findings("all"),
        ):
            with pytest.raises(StateUnavailable):
                await call


async def test_what_was_confirmed_outlives_a_kill_of_redis_and_replicas_go_on(own: RedisServer) -> None:
    store = await open_store(own.url())
    reservation = await reserved(store, BY_DAY, Wanted(output_tokens=60))
    await store.withdraw(ENTRY)
    seen = (await store.entries()).version

    own.kill()
    await refuse_all(store)
    own.start()

    assert await store.changes(seen) is None
    assert (await store.entries()).entries == (ENTRY,)
    await store.settle(reservation, emitted=5)
    assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 5}
    await store.close()


async def test_restart_between_two_calls_is_not_noticed(own: RedisServer) -> None:
    store = await open_store(own.url())
    await asyncio.gather(*(store.usage(LAB, BY_DAY) for _ in range(8)))  # several connections

    own.kill()
    own.start()

    for _ in range(8):
        assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 0}
    await store.close()


async def test_hung_redis_is_unavailable_and_not_waited_for(own: RedisServer) -> None:
    store = await open_store(own.url())
    reservation = await reserved(store, BY_DAY, Wanted(output_tokens=60))

    own.hang()
    await refuse_all(store)
    with pytest.raises(StateUnavailable):
        await open_store(own.url())
    own.go_on()

    await store.settle(reservation, emitted=5)
    await store.close()


async def test_call_that_timed_out_does_not_get_mixed_up_with_the_next(own: RedisServer) -> None:
    store = await open_store(own.url())

    own.hang()
    with pytest.raises(StateUnavailable):
        await store.usage(LAB, BY_DAY)
    own.go_on()

    assert (await store.entries()).entries == ()
    assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 0}
    await store.close()


async def test_more_calls_than_connections_wait_for_their_turn(fresh_url: FreshUrl) -> None:
    store = await open_store(fresh_url())

    reservations = await asyncio.gather(
        *(reserved(store, Quotas(), Wanted(output_tokens=1)) for _ in range(200)),
    )
    await store.renew(dict.fromkeys(reservations, 1))

    assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 200}
    await store.close()


async def test_forgotten_scripts_are_loaded_again(own: RedisServer) -> None:
    store = await open_store(own.url())
    await reserved(store, BY_DAY, Wanted(output_tokens=60))

    with closing(own.client()) as client:
        client.script_flush()

    assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 60}
    await store.close()


async def test_emptied_redis_grants_nothing_and_says_that_it_has_forgotten(own: RedisServer) -> None:
    store = await open_store(own.url())
    reservation = await reserved(store, BY_DAY, Wanted(output_tokens=60))
    seen = (await store.entries()).version

    with closing(own.client()) as client:
        client.flushall()

    for call in (
        store.reserve(LAB, BY_DAY, Wanted(output_tokens=1)),
        store.settle(reservation),
        store.withdraw(ENTRY),
        store.changes(seen),
        store.entries(),
    ):
        with pytest.raises(HistoryLost):
            await call
    await store.close()


async def test_redis_restored_from_an_old_copy_is_noticed_even_after_it_has_grown(own: RedisServer) -> None:
    store = await open_store(own.url())
    own.kill()
    shutil.copytree(own.directory / "appendonlydir", own.directory / "copy")
    own.start()
    await store.withdraw(ENTRY)
    seen = (await store.entries()).version

    own.kill()
    shutil.rmtree(own.directory / "appendonlydir")
    (own.directory / "copy").rename(own.directory / "appendonlydir")
    own.start()
    with pytest.raises(HistoryLost):
        await store.changes(seen)
    await store.withdraw(Withdrawal("w-2", ModelTarget("gpt2-774m"), 1_770_000_000, "Misuse.", "operator-1"))
    with pytest.raises(HistoryLost):
        await store.changes(seen)

    await store.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("appendonly", "no"), ("appendfsync", "everysec"), ("appendfsync", "no"), ("maxmemory-policy", "allkeys-lru")],
)
async def test_redis_that_may_forget_is_refused(own: RedisServer, setting: str, value: str) -> None:
    with closing(own.client()) as client:
        client.config_set(setting, value)

    with pytest.raises(StoreUnsuitable, match=f"{setting} is {value}, and must be"):
        await open_store(own.url())


async def test_redis_whose_settings_cannot_be_read_is_refused(own: RedisServer) -> None:
    own.command("ACL", "SETUSER", "gate", "on", ">hunter2", "~*", "+@all", "-config")

    with pytest.raises(StoreUnsuitable, match="needs CONFIG GET") as refused:
        await open_store(f"redis://gate:hunter2@127.0.0.1:{own.port}/0")

    assert "hunter2" not in str(refused.value)


async def test_user_needs_rights_to_few_commands_and_to_our_keys_only(own: RedisServer) -> None:
    rights = (
        "+evalsha +script|load +config|get +get +set +time +hmget +hgetall +hset +hdel +hvals +pexpire +lpos +lindex"
        " +llen +rpush +zadd +zcard +zrem +zrangebyscore +zrevrangebylex"
    )
    own.command("ACL", "SETUSER", "gate", "on", ">hunter2", "~{sluicegate}:*", *rights.split())

    store = await open_store(f"redis://gate:hunter2@127.0.0.1:{own.port}/0")
    reservation = await reserved(store, BY_DAY, Wanted(output_tokens=60))
    await store.renew({reservation: 1})
    await store.settle(reservation, emitted=5)
    await store.withdraw(ENTRY)
    await store.lift(ENTRY.id)
    await store.salt()
    await store.put_sketches("life-1", {"a": b"1"})
    filed = finding()
    await store.file_finding(filed, request="r", bounds=(Bound("all", 9),))
    await store.review_finding(filed.id, Review(FindingStatus.ACCEPTED, 1_770_000_000, "It holds."))

    assert [each.finding for each in await store.findings("all")] == [filed]
    assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 5}
    assert (await store.entries()).entries == ()
    assert len((await store.sketches("life-2")).sketches) == 1
    await store.close()


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a b", b"A" * 100_000], ids=["no text", "no base64", "too long"])
async def test_sketch_that_nobody_of_ours_put_is_left_out_and_the_others_are_read(
    own: RedisServer, data: bytes
) -> None:
    store = await open_store(own.url())
    await store.put_sketches("life-1", {"a": b"1", "b": b"2"})

    with closing(own.client()) as client:
        client.hset("{sluicegate}:sketches", "life-1 a", data)
        client.zadd("{sluicegate}:sketch-numbers", {b"\xff x": 9, b"no-partner": 10})
        client.hset("{sluicegate}:sketches", b"\xff x", "AAAA")

    assert [each.data for each in (await store.sketches("life-2")).sketches] == [b"2"]
    await store.close()


async def test_base64_that_is_cut_off_is_given_as_it_is(own: RedisServer) -> None:
    store = await open_store(own.url())
    await store.put_sketches("life-1", {"a": b"1"})

    with closing(own.client()) as client:
        client.hset("{sluicegate}:sketches", "life-1 a", "AAA")

    assert [each.data for each in (await store.sketches("life-2")).sketches] == [b"AAA"]
    await store.close()


async def test_sketches_are_gone_a_day_after_the_last_was_put_though_nobody_puts_more(own: RedisServer) -> None:
    store = await open_store(own.url())

    await store.put_sketches("life-1", {"a": b"1"})

    for key in ("sketches", "sketch-numbers", "sketch-times"):
        assert 86_000 < int(own.command("TTL", f"{{sluicegate}}:{key}")) <= 86_400
    assert own.command("TTL", "{sluicegate}:signals") == "-1"  # the numbers go on, or readers would miss some
    await store.close()


async def test_wrong_password_is_unavailable_and_not_told(own: RedisServer) -> None:
    own.command("ACL", "SETUSER", "gate", "on", ">right", "~*", "+@all")

    with pytest.raises(StateUnavailable) as refused:
        await open_store(f"redis://gate:hunter2@127.0.0.1:{own.port}/0")

    assert "hunter2" not in str(refused.value)


async def test_all_keys_lie_in_one_slot_of_a_cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    with redis_server(tmp_path_factory.mktemp("redis"), "--cluster-enabled", "yes") as server:
        server.make_cluster()
        store = await open_store(server.url())
        reservation = await reserved(store, BY_DAY, Wanted(output_tokens=60))
        await store.renew({reservation: 1})
        await store.settle(reservation, emitted=5)
        await store.withdraw(ENTRY)
        await store.lift(ENTRY.id)

        assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 5}
        assert (await store.entries()).version.epoch == 2
        await store.close()


async def test_a_server_of_a_cluster_that_has_not_our_keys_is_refused_and_names_the_one_that_has(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with (
        redis_server(tmp_path_factory.mktemp("redis"), "--cluster-enabled", "yes") as named,
        redis_server(tmp_path_factory.mktemp("redis"), "--cluster-enabled", "yes") as holder,
    ):
        named.make_cluster_with(holder, key="{sluicegate}:identity")

        with pytest.raises(StoreUnsuitable, match=f"name it: 127.0.0.1:{holder.port}"):
            await open_store(named.url())

        store = await open_store(holder.url())
        assert await store.withdraw(ENTRY) == 1
        await store.close()


async def test_a_replica_is_refused_and_says_to_name_its_master(
    own: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    replica_of = ("--replicaof", f"127.0.0.1 {own.port}")
    with (
        redis_server(tmp_path_factory.mktemp("replica"), *replica_of) as replica,
        pytest.raises(StoreUnsuitable, match="name its master"),
    ):
        await open_store(replica.url())


async def test_keys_that_move_to_another_server_make_the_store_unavailable(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with (
        redis_server(tmp_path_factory.mktemp("redis"), "--cluster-enabled", "yes") as old,
        redis_server(tmp_path_factory.mktemp("redis"), "--cluster-enabled", "yes") as new,
    ):
        new.make_cluster_with(old, key="{sluicegate}:identity")
        store = await open_store(old.url())
        slot = old.command("CLUSTER", "KEYSLOT", "{sluicegate}:identity")
        new_id = new.command("CLUSTER", "MYID")

        old.command("DEL", "{sluicegate}:identity")
        for server in (new, old):
            server.command("CLUSTER", "SETSLOT", slot, "NODE", new_id)

        with pytest.raises(StateUnavailable):
            await store.entries()
        await store.close()


async def test_books_leave_redis_by_themselves_and_withdrawals_stay(own: RedisServer) -> None:
    store = await open_store(own.url())
    await reserved(store, BY_DAY, Wanted(output_tokens=60))
    await store.withdraw(ENTRY)

    with closing(own.client()) as client:
        days = {key.decode(): client.ttl(key) / 86_400 for key in client.scan_iter()}

    ledger = {key: left for key, left in days.items() if "account" in key or "lease" in key}
    others = {key: left for key, left in days.items() if key not in ledger}
    assert len(ledger) == 3
    assert all(2 < left < 3.1 for left in ledger.values())
    assert len(others) == 3
    assert all(left < 0 for left in others.values())
    await store.close()


async def test_a_reservation_reads_no_other_that_runs(own: RedisServer) -> None:
    store = await open_store(own.url())
    running = await asyncio.gather(*(reserved(store, BY_DAY, Wanted(output_tokens=1)) for _ in range(20)))
    own.command("CONFIG", "RESETSTAT")

    await store.settle(await reserved(store, BY_DAY, Wanted(output_tokens=30)), emitted=5)
    await store.renew({running[0]: 1})

    assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 25}
    assert "cmdstat_hgetall" not in own.command("INFO", "commandstats")
    await store.close()


async def test_reservations_of_a_release_that_kept_no_sums_still_count(own: RedisServer) -> None:
    store = await open_store(own.url())
    first = await reserved(store, BY_DAY, Wanted(output_tokens=60))
    with closing(own.client()) as client:
        (expiries,) = client.keys("*lease-expiries*")
        (account,) = client.keys("*account*")
        client.delete(expiries)
        client.hdel(account, "held_output", "held_scored")

    second = await reserved(store, BY_DAY, Wanted(output_tokens=30))

    assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 90}
    await store.settle(first, emitted=1)
    await store.settle(second, emitted=2)
    assert await used(store, BY_DAY) == {Quota.OUTPUT_TOKENS_PER_DAY: 3}
    await store.close()


async def test_tls_needs_a_certificate_of_the_authority_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    tls, stranger = tmp_path_factory.mktemp("tls"), tmp_path_factory.mktemp("stranger")
    Authority(tls).issue("localhost")
    Authority(stranger)
    with redis_server(tmp_path_factory.mktemp("redis"), tls=tls) as server:
        url = f"rediss://localhost:{server.port}/0"

        store = await open_store(f"{url}?ssl_ca_certs={tls}/ca.pem")
        assert (await store.entries()).entries == ()
        with pytest.raises(StateUnavailable):
            await open_store(f"{url}?ssl_ca_certs={stranger}/ca.pem")
        with pytest.raises(StateUnavailable):
            await open_store(url)

        await store.close()
