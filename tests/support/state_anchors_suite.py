"""What every store does with the heads of audit logs. Imported whole by the modules that have a fixture `fresh_url`."""

from __future__ import annotations

from state_replicas import FreshUrl, sharing


async def test_newest_head_of_each_replica_is_kept_and_all_replicas_see_it(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        one, other = await replicas.open(), await replicas.open()

        await one.anchor("gate-0", "a", "a:1:x")
        await one.anchor("gate-0", "a", "a:2:y")
        await other.anchor("gate 1, “west”", "b", "b:7:z")

        assert await one.anchors() == await other.anchors() == {"gate-0": "a:2:y", "gate 1, “west”": "b:7:z"}


async def test_new_store_has_no_heads(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        assert await (await replicas.open()).anchors() == {}


async def test_heads_outlive_the_process(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        await store.anchor("gate-0", "a", "a:1:x")
        await store.close()

        assert await (await replicas.open()).anchors() == {"gate-0": "a:1:x"}


async def test_head_of_another_log_is_not_replaced(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        one, other = await replicas.open(), await replicas.open()
        kept = [await one.anchor("gate-0", "a", "a:1:x"), await other.anchor("gate-0", "ab", "ab:1:y")]

        kept.append(await one.anchor("gate-0", "a", "a:2:z"))

        assert kept == [True, False, True]
        assert await one.anchors() == {"gate-0": "a:2:z"}
