"""What becomes of calls when the ledger cannot be asked, or has given a lease up."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from audits import call_of
from issuer import NOW, FakeClock
from policies import agreement, policy, release

from sluicegate.auth import Audience, Grant, Peer, Policy, Principal, Quotas, Reason, anonymous
from sluicegate.server.caller import Caller
from sluicegate.server.errors import CallRefused
from sluicegate.server.live import LiveCalls
from sluicegate.server.metering import Meter
from sluicegate.server.output import Usage
from sluicegate.server.state import HistoryLost, StateUnavailable, Store, Wanted, open_store, patiently

LEASE_SECONDS = 30.0
WANTED = Wanted(output_tokens=100)


class Switched:
    """A backend that can be cut off, fail, or be late."""

    def __init__(self, backend: Any) -> None:
        self.is_down = False
        self.faults: dict[str, Exception] = {}
        """Raised by what is named here, instead of an answer."""
        self.gates: dict[str, asyncio.Event] = {}
        """Waited for by what is named here, once it was asked."""
        self.asked = asyncio.Event()
        """Something waits at a gate."""
        self.late: set[str] = set()
        """Done, although the answer comes too late."""
        self.crossed: set[str] = set()
        """The same, and done only when a later `settle` has been answered."""
        self.done_late = asyncio.Event()
        """What was crossed is done."""
        self._backend = backend
        self._waiting: list[Callable[[], Awaitable[Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(*arguments: Any) -> Any:
            if self.is_down:
                raise StateUnavailable("cut off")
            if name in self.faults:
                raise self.faults[name]
            if name in self.gates:
                self.asked.set()
                await self.gates[name].wait()
            work = functools.partial(getattr(self._backend, name), *arguments)
            if name in self.crossed:
                self._waiting.append(work)
                raise StateUnavailable("too late")
            answer = await work()
            while name == "settle" and self._waiting:
                await self._waiting.pop()()
                self.done_late.set()
            if name in self.late:
                raise StateUnavailable("too late")
            return answer

        return ask


class Bench:
    """A meter over a store that can be cut off, with clocks that stand still."""

    def __init__(self, store: Store, switch: Switched, in_force: Policy, clock: FakeClock) -> None:
        self.clock = clock
        self.store = store
        self.switch = switch
        self.meter = Meter(store, lambda: in_force, clock=clock)
        self.live = LiveCalls()
        self.call = call_of(CALLER, in_force)
        self.begun = asyncio.Event()

    async def running(self, held: Grant) -> None:
        """A call that holds what it wants until it is ended."""
        with self.live.entry(self.call, held, Usage(1)) as call:
            async with self.meter.reserved(call, CALLER, Usage(1), WANTED):
                self.begun.set()
                await asyncio.Event().wait()


async def all_done(store: Store) -> None:
    """Wait for what the store does in the background."""
    while store._running:
        await asyncio.wait(store._running)


@asynccontextmanager
async def bench(directory: Path, on_state_lost: dict[str, str] | None = None) -> AsyncIterator[Bench]:
    clock = FakeClock()
    opened = await open_store(f"sqlite:////{directory}/state.db", lease_seconds=LEASE_SECONDS, clock=clock)
    switch = Switched(opened._backend)
    store = Store(switch, lease_seconds=LEASE_SECONDS)
    terms = on_state_lost or {"public": "refuse", "partner": "refuse"}
    in_force = policy(release(on_state_lost=terms), agreement())
    try:
        yield Bench(store, switch, in_force, clock)
    finally:
        switch.is_down = False
        await store.close()


def grant(audience: Audience = Audience.PUBLIC, agreement_id: str | None = None, **quotas: int) -> Grant:
    return Grant(
        action="generate",
        model="gpt2-124m",
        audience=audience,
        stage="s2",
        policy_revision="0" * 64,
        agreement=agreement_id,
        partner="public",
        max_output_tokens=None,
        watermark=False,
        redaction=None,
        stop_flagged=False,
        outside_hours=False,
        expires_at=NOW + 900,
        quotas=Quotas(**(quotas or {"output_tokens_per_day": 1_000})),
    )


PARTNER = grant(Audience.PARTNER, "agr-example-lab")
CALLER = Caller(
    Principal(
        issuer="https://issuer.example",
        subject="alice",
        client_id="app",
        token_id="token-1",
        key_id="key",
        scopes=frozenset(),
        authorization_details=(),
        issued_at=NOW,
        expires_at=NOW + 900,
        authenticated_at=None,
        acr=None,
        certificate_thumbprint=None,
    ),
    Peer(ip_address("192.0.2.7")),
)


@pytest.mark.parametrize("held", [grant(), PARTNER], ids=["public", "partner"])
async def test_without_the_ledger_a_call_is_refused(tmp_path: Path, held: Grant) -> None:
    async with bench(tmp_path) as at:
        at.switch.is_down = True

        with pytest.raises(CallRefused) as refused, at.live.entry(at.call, held, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED):
                pass

        assert refused.value.reason is Reason.STATE_UNAVAILABLE
        assert refused.value.retry_after_seconds is not None


async def test_the_policy_may_serve_the_public_without_the_ledger_and_refuse_partners(tmp_path: Path) -> None:
    async with bench(tmp_path, {"public": "serve", "partner": "refuse"}) as at:
        at.switch.is_down = True

        with at.live.entry(at.call, grant(), Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED) as hold:
                assert hold.output_tokens is None
        with pytest.raises(CallRefused), at.live.entry(at.call, PARTNER, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED):
                pass


async def test_recovery_needs_no_restart(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        at.switch.is_down = True
        with pytest.raises(CallRefused), at.live.entry(at.call, PARTNER, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED):
                pass
        at.switch.is_down = False

        with at.live.entry(at.call, PARTNER, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED) as hold:
                assert hold.output_tokens == 100


async def test_a_running_call_outlives_a_short_loss_of_the_ledger(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        usage = Usage(1)
        with at.live.entry(at.call, PARTNER, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, usage, WANTED):
                at.switch.is_down = True
                await at.meter.renew()
                at.switch.is_down = False
                at.clock.now += LEASE_SECONDS / 3
                usage.output_tokens = 7
                await at.meter.renew()

        assert call.refusal is None
        assert [each.used for each in await at.meter.usage(CALLER, PARTNER)] == [7]


async def test_a_running_call_ends_before_its_lease_can_lapse(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        call = asyncio.create_task(at.running(PARTNER))
        await at.begun.wait()
        at.switch.is_down = True
        at.clock.now += LEASE_SECONDS * 2 / 3
        await at.meter.renew()

        with pytest.raises(CallRefused) as refused:
            await call

        assert refused.value.reason is Reason.STATE_UNAVAILABLE


async def test_a_lease_that_lapsed_ends_its_call_and_stays_charged(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        call = asyncio.create_task(at.running(PARTNER))
        await at.begun.wait()
        at.clock.now += LEASE_SECONDS + 1
        await at.meter.renew()

        with pytest.raises(CallRefused) as refused:
            await call

        assert refused.value.reason is Reason.STATE_UNAVAILABLE
        assert [each.used for each in await at.meter.usage(CALLER, PARTNER)] == [100]


async def test_a_call_that_settles_while_leases_are_renewed_ends_as_it_did(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        with at.live.entry(at.call, PARTNER, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED):
                at.switch.gates["renew"] = asyncio.Event()
                renewal = asyncio.create_task(at.meter.renew())
                await at.switch.asked.wait()
            at.switch.gates["renew"].set()
            await renewal

        assert call.refusal is None


async def test_a_reservation_that_is_made_too_late_to_be_told_of_is_given_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        at.switch.late.add("reserve")
        with pytest.raises(CallRefused) as refused, at.live.entry(at.call, PARTNER, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED):
                pass
        await all_done(at.store)

        assert refused.value.reason is Reason.STATE_UNAVAILABLE
        assert [each.used for each in await at.meter.usage(CALLER, PARTNER)] == [0]


async def test_a_reservation_is_given_back_though_the_store_makes_it_after_it_was_asked_to(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        at.switch.crossed.add("reserve")
        with pytest.raises(CallRefused), at.live.entry(at.call, PARTNER, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED):
                pass
        await at.switch.done_late.wait()
        booked = [each.used for each in await at.meter.usage(CALLER, PARTNER)]
        await all_done(at.store)

        assert booked == [100]
        assert [each.used for each in await at.meter.usage(CALLER, PARTNER)] == [0]


async def test_a_server_that_starts_waits_for_a_store_that_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.server.state.store.ASK_AGAIN_SECONDS", 0.01)
    async with bench(tmp_path) as at:
        at.switch.is_down = True
        asking = asyncio.create_task(patiently(at.store.salt))
        await asyncio.sleep(0.05)
        at.switch.is_down = False

        assert await asking == await at.store.salt()


async def test_it_does_not_wait_for_a_store_that_stays_away_or_has_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.server.state.store.PATIENT_SECONDS", 0.0)
    async with bench(tmp_path) as at:
        at.switch.is_down = True
        with pytest.raises(StateUnavailable):
            await patiently(at.store.salt)
        at.switch.is_down = False
        monkeypatch.setattr("sluicegate.server.state.store.PATIENT_SECONDS", LEASE_SECONDS)
        at.switch.faults["salt"] = HistoryLost("another store")
        with pytest.raises(HistoryLost):
            await patiently(at.store.salt)


async def test_a_store_that_has_forgotten_changes_nothing_of_how_a_call_ends(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        at.switch.faults["settle"] = HistoryLost("another store")
        with at.live.entry(at.call, PARTNER, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED):
                served = True

        assert served
        with pytest.raises(CallRefused) as refused, at.live.entry(at.call, PARTNER, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED):
                raise CallRefused(Reason.TOKEN_EXPIRED)
        assert refused.value.reason is Reason.TOKEN_EXPIRED


async def test_usage_cannot_be_told_without_the_ledger(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        at.switch.is_down = True

        with pytest.raises(CallRefused) as refused:
            await at.meter.usage(CALLER, PARTNER)

        assert refused.value.reason is Reason.STATE_UNAVAILABLE


async def test_a_caller_without_limits_needs_no_ledger(tmp_path: Path) -> None:
    unlimited = grant(Audience.INTERNAL, output_tokens_per_call=5)
    nothing = Grant(**{**{name: getattr(unlimited, name) for name in Grant.__slots__}, "quotas": Quotas()})
    async with bench(tmp_path) as at:
        at.switch.is_down = True

        with at.live.entry(at.call, nothing, Usage(1)) as call:
            async with at.meter.reserved(call, CALLER, Usage(1), WANTED) as hold:
                assert hold.reservation is None


async def test_anonymous_callers_are_counted_by_network(tmp_path: Path) -> None:
    limits = grant(requests_per_minute=1)
    callers = [Caller(anonymous(), Peer(ip_address(address))) for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1")]
    neighbour = Caller(anonymous(), Peer(ip_address("2001:db8::ffff")))
    async with bench(tmp_path) as at:
        for caller in callers:
            with at.live.entry(at.call, limits, Usage(1)) as call:
                async with at.meter.reserved(call, caller, Usage(1), WANTED):
                    pass

        with pytest.raises(CallRefused) as refused, at.live.entry(at.call, limits, Usage(1)) as call:
            async with at.meter.reserved(call, neighbour, Usage(1), WANTED):
                pass

        assert refused.value.reason is Reason.REQUEST_RATE_LIMIT
