"""What another policy would change, as the use case finds it: replay, signatures, and one at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from issuer import ISSUER, NOW
from policies import agreement, contents, policy, release
from signers import TRUST, sign_agreement, signed_plan

from sluicegate.auth import Policy, Problem, Reason, TrustRoot, Withdrawals
from sluicegate.auth.recorded import RecordedCall
from sluicegate.auth.simulation import Shift
from sluicegate.server import simulating as simulating_module
from sluicegate.server.errors import CallRefused
from sluicegate.server.gate import Gate
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.simulating import CallRecords, Simulating
from sluicegate.server.watermark import Keyring

LONG_SECONDS = 20.0
LATER = tuple(contents(release(active="s3"), agreement()).items())
"""A policy at the next stage, which opens gpt2-774m to the public."""


def call(client: str = "some-app", model: str = "gpt2-774m") -> RecordedCall:
    scopes = [f"generate:{model}"]
    return RecordedCall.model_validate(
        {"at": NOW, "issuer": ISSUER, "client": client, "scopes": scopes, "action": "generate", "model": model}
    )


class Records:
    """Calls on record, and which clients were asked for."""

    def __init__(self, *calls: RecordedCall | None) -> None:
        self._calls = calls
        self.asked: Collection[tuple[str, str]] = ()

    def recent(self, clients: Collection[tuple[str, str]]) -> Iterator[RecordedCall | None]:
        self.asked = clients
        yield from self._calls


class HeldRecords:
    """A thousand calls, of which the first comes when the test says so."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.given = 0

    def recent(self, clients: Collection[tuple[str, str]]) -> Iterator[RecordedCall]:
        self.begun.set()
        assert self.go_on.wait(LONG_SECONDS)
        try:
            for self.given in range(1, 1_001):
                yield call()
        finally:
            self.ended.set()


def nothing_against(policy: Policy) -> Problem | None:
    return None


def made(
    records: CallRecords | None = None,
    *,
    loaded: Policy | None = None,
    trust: TrustRoot | None = None,
    widening_problem: Callable[[Policy], Problem | None] = nothing_against,
) -> Simulating:
    in_force = (loaded or policy(None, agreement())).under(Withdrawals())
    gate = Gate(lambda: in_force, Metrics(), lambda: NOW, withdrawals_age=lambda: 0.0, keyring=Keyring())
    return Simulating(gate, trust, widening_problem, records)


async def refused(call: Any) -> CallRefused:
    with pytest.raises(CallRefused) as caught:
        await call
    return caught.value


async def test_without_records_the_policies_alone_are_compared() -> None:
    found = await made().simulate(LATER)

    assert found.replay is None
    assert found.comparison.opens_wider
    assert {(each.shift, each.model) for each in found.changes.shown} == {(Shift.GAINED, "gpt2-774m")}


async def test_calls_on_record_are_decided_under_both_policies() -> None:
    found = await made(Records(call(), call(), call(model="gpt2-124m"))).simulate(LATER)

    assert found.replay is not None
    assert not found.replay.is_partial
    assert dict(found.replay.tally.totals) == {Shift.GAINED: 2, Shift.SERVED: 1}
    assert found.replay.tally.by("client", Shift.GAINED) == {f"some-app of {ISSUER}": 2}


async def test_calls_of_which_too_little_is_on_record_are_counted_apart() -> None:
    found = await made(Records(call(), None, call(), None, None)).simulate(LATER)

    assert found.replay is not None
    assert (found.replay.tally.totals.total(), found.replay.undecidable) == (2, 3)


async def test_only_clients_of_the_policy_in_force_get_their_names_back() -> None:
    records = Records()
    clients = [{"issuer": ISSUER, "client": "lab-new"}]

    await made(records).simulate(tuple(contents(None, agreement(clients=clients)).items()))

    assert set(records.asked) == {(ISSUER, "eval-team"), (ISSUER, "lab-app")}


async def test_a_part_of_many_records_says_that_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulating_module, "MAX_REPLAYED_CALLS", 2)

    whole = await made(Records(call(), call())).simulate(LATER)
    part = await made(Records(call(), call(), call())).simulate(LATER)

    assert whole.replay is not None
    assert part.replay is not None
    assert (whole.replay.is_partial, part.replay.is_partial) == (False, True)
    assert part.replay.tally.totals.total() == 2


async def test_only_one_is_looked_at_at_a_time_also_when_its_caller_has_left() -> None:
    records = HeldRecords()
    simulating = made(records)
    first = asyncio.create_task(simulating.simulate(LATER))
    assert await asyncio.to_thread(records.begun.wait, LONG_SECONDS)

    beside = await refused(simulating.simulate(LATER))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    after = await refused(simulating.simulate(LATER))

    assert [(each.reason, each.retry_after_seconds) for each in (beside, after)] == [
        (Reason.SERVER_OVERLOADED, 2.0),
        (Reason.SERVER_OVERLOADED, 2.0),
    ]
    records.go_on.set()
    assert await asyncio.to_thread(records.ended.wait, LONG_SECONDS)
    assert records.given == 1, "the replay goes on for a caller who has left"


async def test_the_next_is_looked_at_after_one_that_failed() -> None:
    simulating = made()

    bad = await refused(simulating.simulate([("release.yaml", b"active: s1")]))
    found = await simulating.simulate(LATER)

    assert bad.reason is Reason.REQUEST_INVALID
    assert found.comparison.differences


async def test_a_policy_that_is_yet_to_be_signed_is_looked_at_and_what_it_lacks_is_told() -> None:
    loaded = policy(signed_plan(("s1", "s2")), sign_agreement(agreement()), trust=TRUST)
    plan = {**signed_plan(("s1", "s2")), "active": "s3"}
    unsigned = tuple(contents(plan, agreement()).items())

    found = await made(loaded=loaded, trust=TRUST).simulate(unsigned)

    assert found.signatures_checked
    assert [(problem.file, problem.field) for problem in found.signature_problems] == [
        ("release.yaml", "active"),
        ("agreements/0.yaml", "signature"),
    ]
    assert {each.model for each in found.changes.shown} == {"gpt2-774m"}


async def test_a_signed_policy_that_a_reload_would_still_refuse_says_why() -> None:
    loaded = policy(signed_plan(("s1", "s2")), trust=TRUST)
    signed = tuple(contents(signed_plan(("s1", "s2"))).items())
    problem = Problem("release.yaml", "active", "opens wider")

    good = await made(loaded=loaded, trust=TRUST).simulate(signed)
    bad = await made(loaded=loaded, trust=TRUST, widening_problem=lambda policy: problem).simulate(signed)

    assert (good.signature_problems, bad.signature_problems) == ((), (problem,))


async def test_where_signatures_are_off_none_are_asked_for() -> None:
    def never(policy: Policy) -> Problem | None:
        raise AssertionError("nobody is to be asked")

    found = await made(widening_problem=never).simulate(LATER)

    assert (found.signatures_checked, found.signature_problems) == (False, ())


WIDE = "\U0001f600"
LONG_AND_MANY: dict[str, bytes] = {
    "one very long": f'? "{WIDE * 10_000}"\n: 1\n? "{WIDE * 10_000}"\n: 1\n'.encode(),
    "many long": "".join(f'"{number} {WIDE * 230}": 1\n' for number in range(100)).encode(),
    "very many": "".join(f"k{number}: 1\n" for number in range(10_000)).encode(),
}


@pytest.mark.parametrize("content", LONG_AND_MANY.values(), ids=LONG_AND_MANY)
async def test_problems_travel_in_trailers_however_long_and_many_they_are(content: bytes) -> None:
    error = await refused(made().simulate([("release.yaml", content)]))

    assert error.reason is Reason.REQUEST_INVALID
    assert 1 <= len(error.violations) <= 20
    assert sum(len(each.description.encode()) + len(each.field) for each in error.violations) <= 5_000
    assert int(error.detail["problems"]) >= len(error.violations)
