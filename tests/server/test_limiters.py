from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from issuer import FakeClock

from sluicegate.auth import Peer, Principal, Reason, anonymous
from sluicegate.server.caller import Caller
from sluicegate.server.errors import CallRefused
from sluicegate.server.limiters import DENIALS, Budgets, DenialLimiter, Networks, PeerLimiter

NETWORKS = Networks(ipv4_prefix=32, ipv6_prefix=64)
HOUR = 3_600


def spend_all(budgets: Budgets, key: str) -> int:
    """Spend while the key can; gives how often it could."""
    count = 0
    while not budgets.wait_seconds(key):
        budgets.spend(key)
        count += 1
    return count


def client(name: str = "app", issuer: str = "https://issuer.example") -> Principal:
    return replace(anonymous(), issuer=issuer, client_id=name, anonymous=False)


def caller(principal: Principal, address: str | None = "192.0.2.7") -> Caller:
    return Caller(principal, Peer(ip_address(address) if address is not None else None))


def refusal_by(limiter: DenialLimiter, who: Caller) -> CallRefused | None:
    try:
        limiter.admit(who)
    except CallRefused as refused:
        return refused
    return None


# Budgets


@pytest.mark.parametrize("per_minute", [1, 7, 60, 6_000, 100_000])
def test_a_budget_is_spent_at_once_and_is_full_again_after_a_minute(per_minute: int) -> None:
    clock = FakeClock()
    budgets = Budgets(per_minute, clock)

    assert spend_all(budgets, "a") == per_minute
    clock.now += 60
    assert spend_all(budgets, "a") == per_minute


def test_a_budget_refills_evenly() -> None:
    clock = FakeClock()
    budgets = Budgets(60, clock)
    spend_all(budgets, "a")

    spent = []
    for _ in range(5):
        clock.now += 2
        spent.append(spend_all(budgets, "a"))

    assert spent == [2] * 5


def test_over_any_time_no_more_is_spent_than_a_budget_and_its_refills() -> None:
    clock = FakeClock()
    budgets = Budgets(60, clock)
    spent = 0

    for _ in range(10_000):
        clock.now += 0.07
        if not budgets.wait_seconds("a"):
            budgets.spend("a")
            spent += 1

    assert spent - 60 == pytest.approx(700, abs=1)


def test_the_wait_that_is_told_is_the_wait_that_helps() -> None:
    clock = FakeClock()
    budgets = Budgets(60, clock)
    spend_all(budgets, "a")

    wait = budgets.wait_seconds("a")

    assert wait == pytest.approx(1.0)
    clock.now += wait
    assert spend_all(budgets, "a") == 1


def test_keys_have_budgets_of_their_own() -> None:
    budgets = Budgets(3, FakeClock())

    assert (spend_all(budgets, "a"), spend_all(budgets, "b")) == (3, 3)


def test_an_empty_budget_that_is_spent_from_stays_empty_for_no_longer() -> None:
    budgets = Budgets(60, FakeClock())
    for _ in range(1_000):
        budgets.spend("a")

    assert budgets.wait_seconds("a") == pytest.approx(1.0)


@pytest.mark.parametrize("back", [10, HOUR])
def test_a_clock_that_is_set_back_locks_nobody_out(back: float) -> None:
    clock = FakeClock()
    budgets = Budgets(60, clock)
    spend_all(budgets, "a")

    clock.now -= back

    assert budgets.wait_seconds("a") <= 60


def test_memory_is_bounded_and_the_key_that_spent_longest_ago_is_forgotten_first() -> None:
    budgets = Budgets(1, FakeClock(), most=100)

    for number in range(1_000):
        budgets.spend(f"key {number}")

    assert len(budgets) == 100
    assert budgets.wait_seconds("key 999") > 0
    assert budgets.wait_seconds("key 899") == 0


def test_a_key_that_goes_on_spending_is_not_forgotten_for_new_ones() -> None:
    budgets = Budgets(2, FakeClock(), most=100)
    budgets.spend("busy")

    for number in range(1_000):
        budgets.spend(f"key {number}")
        budgets.spend("busy")

        assert budgets.wait_seconds("busy") > 0


def test_budgets_that_are_full_again_take_no_memory() -> None:
    clock = FakeClock()
    budgets = Budgets(60, clock)
    for number in range(1_000):
        budgets.spend(f"key {number}")

    clock.now += HOUR
    budgets.spend("new")

    assert len(budgets) == 1


# By network


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("0.0.0.1", "::1", False),
    ],
)
def test_a_network_is_an_ipv4_address_or_an_ipv6_subnet(one: str, other: str, same: bool) -> None:
    assert (NETWORKS.of(ip_address(one)) == NETWORKS.of(ip_address(other))) is same


def test_prefixes_are_settings() -> None:
    networks = Networks(ipv4_prefix=24, ipv6_prefix=48)

    assert networks.of(IPv4Address("192.0.2.7")) == networks.of(IPv4Address("192.0.2.200"))
    assert networks.of(IPv6Address("2001:db8:0:1::")) == networks.of(IPv6Address("2001:db8:0:2::"))


def test_a_network_that_calls_too_often_waits_and_others_do_not() -> None:
    limiter = PeerLimiter(2, NETWORKS, FakeClock())
    one, other = IPv4Address("192.0.2.7"), IPv4Address("192.0.2.8")
    limiter.admit(one)
    limiter.admit(one)

    for _ in range(100):
        with pytest.raises(CallRefused) as caught:
            limiter.admit(one)

    assert caught.value.reason is Reason.PEER_RATE_LIMIT
    assert caught.value.retry_after_seconds == pytest.approx(30.0)
    limiter.admit(other)


def test_calls_without_an_address_are_not_limited() -> None:
    limiter = PeerLimiter(1, NETWORKS, FakeClock())

    for _ in range(10):
        limiter.admit(None)


# By denials


def test_a_client_that_is_refused_too_often_waits_until_its_budget_refills() -> None:
    clock = FakeClock()
    limiter = DenialLimiter(2, NETWORKS, clock)
    who = caller(client())
    limiter.count(who, Reason.SCOPE_MISSING)
    assert refusal_by(limiter, who) is None
    limiter.count(who, Reason.MODEL_NOT_RELEASED)

    refused = refusal_by(limiter, who)

    assert refused is not None
    assert refused.reason is Reason.DENIAL_RATE_LIMIT
    assert refused.retry_after_seconds == pytest.approx(30.0)
    clock.now += 30
    assert refusal_by(limiter, who) is None


@pytest.mark.parametrize("reason", sorted(set(Reason) - DENIALS))
def test_what_is_no_refusal_of_rows_11_to_16_costs_nothing(reason: Reason) -> None:
    limiter = DenialLimiter(1, NETWORKS, FakeClock())
    who = caller(client())

    limiter.count(who, reason)

    assert refusal_by(limiter, who) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (caller(client()), caller(client(), "198.51.100.1"), True),
        (caller(client()), caller(client("other")), False),
        (caller(client()), caller(client(issuer="https://other.example")), False),
        (caller(anonymous()), caller(anonymous()), True),
        (caller(anonymous()), caller(anonymous(), "198.51.100.1"), False),
        (caller(anonymous(), None), caller(anonymous(), None), True),
        (caller(anonymous(), None), caller(anonymous()), False),
    ],
)
def test_denials_count_by_client_and_without_a_token_by_network(one: Caller, other: Caller, same: bool) -> None:
    limiter = DenialLimiter(1, NETWORKS, FakeClock())

    limiter.count(one, Reason.REQUEST_INVALID)

    assert refusal_by(limiter, one) is not None
    assert (refusal_by(limiter, other) is not None) is same
