from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from issuer import NOW, FakeClock
from policies import policy

from sluicegate.auth import IssuedBefore, Withdrawals
from sluicegate.server.state import (
    AgreementTarget,
    ClientTarget,
    IssuedBeforeTarget,
    KeyTarget,
    ModelTarget,
    Snapshot,
    StageTarget,
    StateUnavailable,
    Store,
    SubjectTarget,
    Target,
    TokenTarget,
    Version,
    Withdrawal,
    open_store,
)
from sluicegate.server.withdrawing import PolicyInForce, WithdrawalWatch, as_withdrawals

ISSUER = "https://issuer.example"


def entry(target: Target, id_: str = "w-1") -> Withdrawal:
    return Withdrawal(id_, target, NOW, "a drill", "olga")


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Store]:
    store = await open_store(f"sqlite:////{directory}/state.db", clock=FakeClock())
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (TokenTarget(ISSUER, "t", NOW + 60), Withdrawals(tokens=frozenset({(ISSUER, "t")}))),
        (
            IssuedBeforeTarget(ISSUER, NOW, NOW + 60, client="app"),
            Withdrawals(issued_before=(IssuedBefore(ISSUER, NOW, "app"),)),
        ),
        (KeyTarget(ISSUER, "k"), Withdrawals(keys=frozenset({(ISSUER, "k")}))),
        (ClientTarget(ISSUER, "c"), Withdrawals(clients=frozenset({(ISSUER, "c")}))),
        (SubjectTarget(ISSUER, "s"), Withdrawals(subjects=frozenset({(ISSUER, "s")}))),
        (AgreementTarget("a"), Withdrawals(agreements=frozenset({"a"}))),
        (ModelTarget("m"), Withdrawals(models=frozenset({"m"}))),
        (StageTarget("s1"), Withdrawals(stages=frozenset({"s1"}))),
    ],
)
def test_every_kind_of_entry_closes_what_it_names(target: Target, expected: Withdrawals) -> None:
    assert as_withdrawals((entry(target),)) == expected


async def test_a_new_list_is_in_force_before_it_is_told(tmp_path: Path) -> None:
    loaded = policy()
    in_force = PolicyInForce(lambda: loaded)
    told: list[bool] = []
    async with opened(tmp_path) as store:
        watch = WithdrawalWatch(
            store, in_force, on_change=lambda: told.append(in_force().is_withdrawn("gpt2-124m")), clock=FakeClock()
        )
        await watch.refresh()
        await store.withdraw(entry(ModelTarget("gpt2-124m")))
        await watch.refresh()
        await watch.refresh()

        assert told == [False, True]
        assert [each.target for each in watch.entries] == [ModelTarget("gpt2-124m")]


class SlowStore:
    """A store whose answers come when they are let go."""

    def __init__(self, *snapshots: Snapshot) -> None:
        self._snapshots = list(snapshots)
        self.asked = 0
        self.go = asyncio.Event()

    async def entries(self) -> Snapshot:
        return self._snapshots.pop(0)

    async def changes(self, since: Version) -> Snapshot | None:
        self.asked += 1
        await self.go.wait()
        return self._snapshots.pop(0)


async def test_no_answer_of_the_store_can_overtake_another() -> None:
    store = SlowStore(*(Snapshot(Version("store", epoch, str(epoch)), ()) for epoch in range(3)))
    watch = WithdrawalWatch(cast(Store, store), PolicyInForce(policy), on_change=lambda: None, clock=FakeClock())
    await watch.refresh()

    both = asyncio.gather(watch.refresh(), watch.refresh())
    for _ in range(10):
        await asyncio.sleep(0)
    asked_before_an_answer = store.asked
    store.go.set()
    await both

    assert asked_before_an_answer == 1
    assert store.asked == 2


async def test_a_list_that_cannot_be_confirmed_stays_and_grows_old(tmp_path: Path) -> None:
    clock = FakeClock()
    in_force = PolicyInForce(policy)
    async with opened(tmp_path) as store:
        watch = WithdrawalWatch(store, in_force, on_change=lambda: None, clock=clock)
        assert watch.age_seconds is None
        await store.withdraw(entry(ModelTarget("gpt2-124m")))
        await watch.refresh()
    clock.now += 7

    with pytest.raises(StateUnavailable):
        await watch.refresh()

    assert watch.age_seconds == 7
    assert in_force().is_withdrawn("gpt2-124m")


def test_the_policy_in_force_is_made_once_for_each_policy_and_list() -> None:
    loaded = [policy()]
    in_force = PolicyInForce(lambda: loaded[0])

    first = in_force()
    again = in_force()
    loaded[0] = policy()
    after_reload = in_force()
    in_force.narrow(Withdrawals(models=frozenset({"gpt2-124m"})))
    narrowed = in_force()

    assert first is again
    assert after_reload is not first
    assert narrowed is not after_reload
    assert narrowed.is_withdrawn("gpt2-124m")
