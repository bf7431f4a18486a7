from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from issuer import NOW, FakeClock
from policies import Document, agreement, policy, release

from sluicegate.auth import Audience, Policy, Withdrawals
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.policy_figures import PolicyFigures, expiries, opened, withdrawn
from sluicegate.server.state.withdrawals import KINDS

DAY = 86_400


def ends(days: float, id_: str = "agr-1", partner: str = "example-lab", **changes: object) -> Document:
    """An agreement that ends so many days from now, for a client of its own."""
    until = _timestamp(NOW + days * DAY)
    clients = [{"issuer": "https://issuer.example", "client": f"client-of-{id_}"}]
    valid = {"from": "2025-01-01T00:00:00Z", "until": until}
    return agreement(id=id_, partner=partner, valid=valid, clients=clients, **changes)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Case:
    name: str
    agreements: tuple[Document, ...]
    days: float | None


CASES = [
    Case("one agreement", (ends(10),), 10),
    Case("the first end to come counts", (ends(10), ends(5, "agr-2")), 5),
    Case("an end that has come hides none to come", (ends(-3), ends(5, "agr-2")), 5),
    Case("where all have come, the last", (ends(-3), ends(-5, "agr-2")), -3),
    Case("a draft ends nothing", (ends(3, status="draft"), ends(5, "agr-2")), 5),
    Case("what is suspended or terminated ends nothing", (ends(3, status="suspended"),), None),
    Case("none on file", (), None),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_partners_next_end(case: Case) -> None:
    found = expiries(policy(None, *case.agreements), NOW)

    assert found.get("example-lab") == (None if case.days is None else NOW + case.days * DAY)


def test_partners_have_their_own_ends_and_withdrawn_agreements_none() -> None:
    loaded = policy(None, ends(5), ends(8, "agr-2", "other-lab"), ends(2, "agr-3"))

    found = expiries(loaded.under(Withdrawals(agreements=frozenset({"agr-3"}))), NOW)

    assert found == {"example-lab": NOW + 5 * DAY, "other-lab": NOW + 8 * DAY}


def test_a_withdrawn_model_is_open_to_nobody() -> None:
    narrowed = policy().under(Withdrawals(models=frozenset({"gpt2-355m"})))

    assert opened(narrowed) == {
        "gpt2-124m": Audience.PUBLIC,
        "gpt2-774m": Audience.PARTNER,
        "gpt2-1558m": Audience.PARTNER,
        "gpt2-next": Audience.INTERNAL,
    }


def test_what_is_closed_is_counted_by_kind() -> None:
    closed = Withdrawals(
        tokens=frozenset({("i", "1"), ("i", "2")}), subjects=frozenset({("i", "s")}), stages=frozenset({"s1"})
    )

    counts = withdrawn(policy().under(closed))

    assert counts.keys() == KINDS.keys()
    assert {kind: count for kind, count in counts.items() if count} == {"token": 2, "subject": 1, "stage": 1}
    assert set(withdrawn(policy()).values()) == {0}


def shown(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"sluicegate_{name}", labels)


def test_another_policy_takes_the_place_of_the_one_before() -> None:
    policies = [policy(None, ends(5)), policy(release(active="s1"))]
    metrics, current = Metrics(), policies[0]
    metrics.allow(policies[0].models, ["example-lab"])

    def in_force() -> Policy:
        return current

    figures = PolicyFigures(in_force, metrics, FakeClock())
    figures.show()
    current = policies[1]
    figures.show()

    assert shown(metrics, "policy_info", revision=policies[0].shown_revision, stage="s2") is None
    assert shown(metrics, "policy_info", revision=policies[1].shown_revision, stage="s1") == 1
    assert shown(metrics, "model_open", model="gpt2-355m", audience="public") == 0
    assert shown(metrics, "agreement_expiry_timestamp_seconds", partner="example-lab") is None


async def test_an_end_that_has_come_gives_way_to_the_next_by_itself() -> None:
    in_force, metrics, clock = policy(None, ends(1), ends(9, "agr-2")), Metrics(), FakeClock()
    waits = 0

    async def sleep(_seconds: float) -> None:
        nonlocal waits
        waits += 1
        clock.now += 2 * DAY
        if waits > 1:
            raise asyncio.CancelledError

    figures = PolicyFigures(lambda: in_force, metrics, clock, sleep=sleep)
    figures.show()
    before = shown(metrics, "agreement_expiry_timestamp_seconds", partner="example-lab")
    with pytest.raises(asyncio.CancelledError):
        await figures.run()

    assert before == NOW + DAY
    assert shown(metrics, "agreement_expiry_timestamp_seconds", partner="example-lab") == NOW + 9 * DAY
