"""What every store does with withdrawals. Imported whole by the modules that have a fixture `fresh_url`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from state_replicas import FreshUrl, Replicas, sharing

from sluicegate.server.state import (
    AgreementTarget,
    ClientTarget,
    HistoryLost,
    IssuedBeforeTarget,
    KeyTarget,
    ModelTarget,
    StageTarget,
    SubjectTarget,
    Target,
    TokenTarget,
    Version,
    Withdrawal,
    WithdrawalUnknown,
)
from sluicegate.server.state.withdrawals import KEPT_SECONDS

ISSUER = "https://issuer.example"
MODEL = ModelTarget("gpt2-1558m")


@pytest_asyncio.fixture
async def replicas(fresh_url: FreshUrl) -> AsyncIterator[Replicas]:
    async with sharing(fresh_url()) as opened:
        yield opened


def withdrawal(target: Target = MODEL, created_at: int = 1_770_000_000) -> Withdrawal:
    return Withdrawal(uuid.uuid4().hex, target, created_at, "Leaked; see “incident 7”.\nTwo lines.", "operator-1")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (TokenTarget(ISSUER, "jti-1", 1_999_999_999), "token"),
        (IssuedBeforeTarget(ISSUER, 1_770_000_000, 1_999_999_999), "issued_before"),
        (IssuedBeforeTarget(ISSUER, 1_770_000_000, 1_999_999_999, client="c", subject="ü"), "issued_before"),
        (ClientTarget(ISSUER, "example-lab-eval"), "client"),
        (SubjectTarget(ISSUER, "subject-1"), "subject"),
        (KeyTarget(ISSUER, "2026-11-a"), "key"),
        (AgreementTarget("agr-example-lab-2026-01"), "agreement"),
        (ModelTarget("gpt2-1558m"), "model"),
        (StageTarget("s2"), "stage"),
    ],
)
async def test_withdrawal_of_each_kind_reaches_every_replica_as_it_was_made(
    replicas: Replicas, target: Target, kind: str
) -> None:
    one, other = await replicas.open(), await replicas.open()
    made = withdrawal(target)

    await one.withdraw(made)

    assert (await other.entries()).entries == (made,)
    assert made.kind == kind


async def test_new_store_has_no_withdrawals(replicas: Replicas) -> None:
    store = await replicas.open()

    snapshot = await store.entries()

    assert (snapshot.entries, snapshot.version.epoch) == ((), 0)
    assert await store.changes(snapshot.version) is None


async def test_each_change_is_one_more_epoch(replicas: Replicas) -> None:
    store = await replicas.open()
    first, second = withdrawal(), withdrawal()

    epochs = [await store.withdraw(first), await store.withdraw(second), await store.lift(first.id)]

    assert epochs == [1, 2, 3]
    assert (await store.entries()).version.epoch == 3


async def test_reader_is_told_of_changes_and_only_of_changes(replicas: Replicas) -> None:
    writer, reader = await replicas.open(), await replicas.open()
    start = await reader.entries()
    first, second = withdrawal(created_at=1), withdrawal(created_at=2)

    await writer.withdraw(first)
    await writer.withdraw(second)
    after_two = await reader.changes(start.version)
    assert after_two is not None
    nothing_new = await reader.changes(after_two.version)
    await writer.lift(first.id)
    after_lifting = await reader.changes(after_two.version)

    assert after_two.entries == (first, second)
    assert nothing_new is None
    assert after_lifting is not None
    assert after_lifting.entries == (second,)


async def test_list_is_in_the_order_of_making(replicas: Replicas) -> None:
    store = await replicas.open()
    made = [withdrawal(created_at=second) for second in range(20)]

    for entry in reversed(made):
        await store.withdraw(entry)

    assert (await store.entries()).entries == tuple(made)


async def test_lifting_what_is_not_there_is_an_error_and_no_change(replicas: Replicas) -> None:
    store = await replicas.open()
    entry = withdrawal()
    await store.withdraw(entry)
    await store.lift(entry.id)

    with pytest.raises(WithdrawalUnknown):
        await store.lift(entry.id)
    with pytest.raises(WithdrawalUnknown):
        await store.lift("never-was")

    assert (await store.entries()).version.epoch == 2


async def test_same_entry_again_adds_nothing(replicas: Replicas) -> None:
    store = await replicas.open()
    entry = withdrawal()
    first = await store.withdraw(entry)
    await store.withdraw(withdrawal())

    again = await store.withdraw(entry)

    snapshot = await store.entries()
    assert again == first
    assert (snapshot.version.epoch, len(snapshot.entries)) == (2, 2)


async def test_entry_that_was_lifted_does_not_come_back_by_itself(replicas: Replicas) -> None:
    store = await replicas.open()
    entry = withdrawal()
    await store.withdraw(entry)
    await store.lift(entry.id)

    await store.withdraw(entry)

    assert (await store.entries()).entries == ()


async def test_lifting_one_of_two_entries_for_one_target_leaves_the_other(replicas: Replicas) -> None:
    store = await replicas.open()
    first, second = withdrawal(created_at=1), withdrawal(created_at=2)
    await store.withdraw(first)
    await store.withdraw(second)

    await store.lift(first.id)

    assert (await store.entries()).entries == (second,)


async def test_entries_whose_tokens_have_all_expired_are_forgotten_a_day_later_and_others_stay(
    replicas: Replicas,
) -> None:
    store = await replicas.open()
    soon, later = int(replicas.clock.now) + 60, int(replicas.clock.now) + 61
    kept = [withdrawal(ClientTarget(ISSUER, "c"), 1), withdrawal(TokenTarget(ISSUER, "b", later), 2)]
    await store.withdraw(withdrawal(TokenTarget(ISSUER, "a", soon)))
    await store.withdraw(withdrawal(IssuedBeforeTarget(ISSUER, 5, soon)))
    for entry in kept:
        await store.withdraw(entry)

    replicas.clock.now += 60 + KEPT_SECONDS - 1
    await store.withdraw(withdrawal(created_at=3))
    a_second_before = (await store.entries()).entries
    replicas.clock.now += 1
    await store.withdraw(withdrawal(created_at=4))

    assert len(a_second_before) == 5
    assert (await store.entries()).entries[:2] == tuple(kept)
    assert len((await store.entries()).entries) == 4


async def test_withdrawals_outlive_their_replicas(replicas: Replicas) -> None:
    first = await replicas.open()
    entry = withdrawal()
    await first.withdraw(entry)
    seen = (await first.entries()).version
    await first.close()

    second = await replicas.open()

    assert (await second.entries()).entries == (entry,)
    assert await second.changes(seen) is None


async def test_reader_of_another_store_is_told_that_its_history_is_not_here(
    replicas: Replicas, fresh_url: FreshUrl
) -> None:
    store = await replicas.open()
    async with sharing(fresh_url()) as elsewhere:
        seen = (await (await elsewhere.open()).entries()).version

        with pytest.raises(HistoryLost):
            await store.changes(seen)


async def test_reader_who_has_seen_more_than_the_store_knows_is_told(replicas: Replicas) -> None:
    store = await replicas.open()
    await store.withdraw(withdrawal())
    seen = (await store.entries()).version

    with pytest.raises(HistoryLost):
        await store.changes(replace(seen, epoch=2, mark="of a change that was lost"))


async def test_reader_of_a_past_that_went_otherwise_is_told_even_if_the_store_has_grown_since(
    replicas: Replicas,
) -> None:
    store = await replicas.open()
    for _ in range(3):
        await store.withdraw(withdrawal())
    identity = (await store.entries()).version.store

    with pytest.raises(HistoryLost):
        await store.changes(Version(identity, epoch=2, mark="of a change that was lost"))
