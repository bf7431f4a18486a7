"""What every store does with sketches. Imported whole by the modules that have a fixture `fresh_url`."""

from __future__ import annotations

import asyncio

from state_replicas import FreshUrl, sharing

from sluicegate.server.state import Sketch, Store
from sluicegate.server.state.sketches import KEPT_SECONDS, LARGEST_BYTES, MOST, PAGE_BYTES, pages

ALL_BYTES = bytes(range(256))


async def read(store: Store, source: str = "reader", after: int = 0) -> list[Sketch]:
    """All pages."""
    found: list[Sketch] = []
    while (page := await store.sketches(source, after)).after != after:
        found += page.sketches
        after = page.after
    return found


async def test_salt_is_made_once_and_is_the_same_for_all_replicas(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        stores = [await replicas.open() for _ in range(5)]

        salts = await asyncio.gather(*(store.salt() for store in stores))
        await stores[0].close()
        later = await (await replicas.open()).salt()

        assert {*salts, later} == {salts[0]}
        assert len(salts[0]) == 32


async def test_two_deployments_have_different_salts(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as one, sharing(fresh_url()) as other:
        assert await (await one.open()).salt() != await (await other.open()).salt()


async def test_sketches_reach_other_sources_as_they_were_put_and_not_the_one_that_put_them(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        one, other = await replicas.open(), await replicas.open()

        await one.put_sketches("life-1", {"example-lab": ALL_BYTES, "public": b""})

        found = await read(other, "life-2")
        assert found == [Sketch("life-1", "example-lab", ALL_BYTES), Sketch("life-1", "public", b"")]
        assert await read(one, "life-1") == []


async def test_new_store_has_no_sketches(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        page = await (await replicas.open()).sketches("life-1")

        assert (page.sketches, page.after) == ((), 0)


async def test_only_what_was_put_since_is_read_and_only_the_newest_of_each(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        writer, reader = await replicas.open(), await replicas.open()
        await writer.put_sketches("life-1", {"a": b"1", "b": b"1"})
        first = await reader.sketches("life-2")

        nothing_new = await reader.sketches("life-2", first.after)
        await writer.put_sketches("life-1", {"b": b"2"})
        await writer.put_sketches("life-1", {"b": b"3"})
        second = await reader.sketches("life-2", first.after)

        assert (nothing_new.sketches, nothing_new.after) == ((), first.after)
        assert second.sketches == (Sketch("life-1", "b", b"3"),)
        assert [each.data for each in await read(reader, "life-2")] == [b"1", b"3"]


async def test_putting_nothing_asks_nothing_of_the_store(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        await store.close()

        await store.put_sketches("life-1", {})


async def test_sketches_outlive_the_replica(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        await store.put_sketches("life-1", {"a": b"1"})
        await store.close()

        assert await read(await replicas.open()) == [Sketch("life-1", "a", b"1")]


async def test_sketch_is_forgotten_a_day_after_it_was_put_and_numbers_go_on(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        await store.put_sketches("life-1", {"a": b"1", "b": b"1"})
        replicas.clock.now += 1
        await store.put_sketches("life-1", {"b": b"2"})
        seen = await store.sketches("life-2")

        replicas.clock.now += KEPT_SECONDS - 1
        await store.put_sketches("life-3", {"c": b"3"})
        replicas.clock.now += 1
        await store.put_sketches("life-3", {"d": b"4"})

        assert [each.partner for each in await read(store)] == ["c", "d"]
        assert [each.partner for each in await read(store, after=seen.after)] == ["c", "d"]


def test_no_page_that_is_put_has_more_than_a_page() -> None:
    put = {f"partner-{number}": bytes(LARGEST_BYTES - number) for number in range(9)}

    found = list(pages(put))

    assert max(sum(map(len, page.values())) for page in found) <= PAGE_BYTES
    assert {partner: data for page in found for partner, data in page.items()} == put


async def test_many_sketches_of_its_own_do_not_keep_a_reader_from_those_of_others(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        await store.put_sketches("life-1", {f"p{number}": b"1" for number in range(600)})
        await store.put_sketches("life-2", {"a": b"2"})

        assert await read(store, "life-1") == [Sketch("life-2", "a", b"2")]


async def test_sketches_of_any_size_are_read_page_by_page(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        writer, reader = await replicas.open(), await replicas.open()
        put = {f"partner-{number}": bytes([number]) * LARGEST_BYTES for number in range(40)}
        await writer.put_sketches("life-1", put)

        first = await reader.sketches("life-2")
        found = await read(reader, "life-2")

        assert sum(len(each.data) for each in first.sketches) <= PAGE_BYTES == 128 * 1024
        assert {each.partner: each.data for each in found} == put


async def test_beyond_the_most_the_longest_unrenewed_make_room(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        await store.put_sketches("life-1", {f"p{number}": b"1" for number in range(MOST)})
        await store.put_sketches("life-1", {"p0": b"2"})

        await store.put_sketches("life-2", {"p0": b"3", "p1": b"3"})

        found = {(each.source, each.partner) for each in await read(store)}
        assert len(found) == MOST
        assert {("life-1", "p0"), ("life-2", "p0"), ("life-2", "p1")} <= found
        assert not {("life-1", "p1"), ("life-1", "p2")} & found


async def test_reader_of_a_newer_copy_of_the_store_begins_anew(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        await store.put_sketches("life-1", {"a": b"1"})

        page = await store.sketches("life-2", after=1_000)

        assert page.sketches == (Sketch("life-1", "a", b"1"),)
        assert page.after == (await store.sketches("life-2")).after


async def test_source_whose_name_begins_like_anothers_is_another(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        await store.put_sketches("life-10", {"a": b"1"})

        assert await read(store, "life-1") == [Sketch("life-10", "a", b"1")]
