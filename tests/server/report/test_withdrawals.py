from __future__ import annotations

import pytest
from audit_logs import closing, opening
from report_logs import DAY, START, tally_of

from sluicegate.auth import Audience, Reason
from sluicegate.server.audit import Withdrawn
from sluicegate.server.report import withdrawals as following
from sluicegate.server.report.withdrawals import Withdrawal


def order(kind: str, target: str, **changes: object) -> Withdrawn:
    return Withdrawn(
        id=str(changes.pop("id", "w-1")),
        withdrawal=kind,
        target=target,
        by=("a" * 32,),
        justification="Misuse of ann@example.org",
        **changes,  # type: ignore[arg-type]
    )


def ended(call: str, reason: Reason) -> object:
    return closing(call, finish=None, code="PERMISSION_DENIED", reason=reason)


def followed(*entries: tuple[float, object]) -> list[Withdrawal]:
    return tally_of(entries).withdrawals.withdrawals  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        ("token", "e" * 32, Reason.TOKEN_WITHDRAWN),
        ("key", "2026-11-a", Reason.TOKEN_WITHDRAWN),
        ("issued_before", f"{START:.0f} {'c' * 32}", Reason.TOKEN_WITHDRAWN),
        ("issued_before", f"{START:.0f}", Reason.TOKEN_WITHDRAWN),
        ("client", "c" * 32, Reason.CALLER_WITHDRAWN),
        ("subject", "d" * 32, Reason.CALLER_WITHDRAWN),
        ("agreement", "lab-2026", Reason.AGREEMENT_WITHDRAWN),
        ("agreement", "lab-2026", Reason.AGREEMENT_NOT_ACTIVE),
        ("model", "gpt2-774m", Reason.MODEL_WITHDRAWN),
        ("model", "gpt2-774m", Reason.STAGE_CHANGED),
        ("stage", "s1", Reason.STAGE_CHANGED),
    ],
)
def test_it_took_effect_when_the_last_call_that_it_ended_was_over(kind: str, target: str, reason: Reason) -> None:
    hit = {"agreement": "lab-2026", "model": "gpt2-774m"}

    [found] = followed(
        (1, opening("a", **hit)),
        (2, opening("b", **hit)),
        (10, order(kind, target)),
        (10.2, ended("a", reason)),
        (10.7, ended("b", reason)),
    )

    assert (found.ended.total(), found.effective_at) == (2, "2026-10-01T00:00:10.700Z")


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        ("token", "f" * 32, Reason.TOKEN_WITHDRAWN),
        ("client", "f" * 32, Reason.CALLER_WITHDRAWN),
        ("issued_before", f"{START:.0f} {'f' * 32}", Reason.TOKEN_WITHDRAWN),
        ("model", "gpt2-1558m", Reason.MODEL_WITHDRAWN),
        ("model", "gpt2-774m", Reason.DEADLINE_EXCEEDED),
        ("agreement", "uni-2026", Reason.AGREEMENT_WITHDRAWN),
    ],
)
def test_calls_that_ended_for_another_cause_are_not_its(kind: str, target: str, reason: Reason) -> None:
    [found] = followed((1, opening("a")), (10, order(kind, target)), (11, ended("a", reason)))

    assert (found.ended.total(), found.effective_at) == (0, None)


def test_a_call_that_was_still_let_in_says_that_it_was_not_in_effect_yet() -> None:
    [found] = followed(
        (10, order("model", "gpt2-774m")), (10.4, opening("late")), (12, opening("x", model="gpt2-124m"))
    )

    assert (found.ended.total(), found.effective_at) == (0, "2026-10-01T00:00:10.400Z")


def test_what_a_change_of_policy_ends_weeks_later_is_not_its() -> None:
    [found] = followed(
        (10, order("stage", "s1")), (DAY, opening("a", model="gpt2-124m")), (2 * DAY, ended("a", Reason.STAGE_CHANGED))
    )

    assert found.ended.total() == 0


def test_once_it_is_lifted_nothing_is_its_any_more() -> None:
    made, lifted = followed(
        (1, opening("a")),
        (10, order("model", "gpt2-774m")),
        (20, order("model", "gpt2-774m", lifted=True, signers=("ann", "bob"))),
        (30, opening("b")),
        (31, ended("a", Reason.MODEL_WITHDRAWN)),
    )

    assert (made.effective_at, lifted.is_lifting, lifted.signers) == (None, True, 2)


def test_a_call_counts_for_one_order_only() -> None:
    first, second = followed(
        (1, opening("a")),
        (10, order("client", "c" * 32)),
        (11, order("subject", "d" * 32, id="w-2")),
        (12, ended("a", Reason.CALLER_WITHDRAWN)),
    )

    assert (first.ended.total(), second.ended.total()) == (1, 0)


def test_orders_and_ends_outside_of_the_period_are_not_followed() -> None:
    assert followed((-10, order("model", "gpt2-774m"))) == []
    [found] = followed(
        (1, opening("a")), (10, order("model", "gpt2-774m")), (8 * DAY, ended("a", Reason.MODEL_WITHDRAWN))
    )
    assert found.effective_at is None


def test_there_are_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MAX_WITHDRAWALS", 2)

    book = tally_of([(n, order("token", "e" * 32, id=f"w-{n}")) for n in range(5)]).withdrawals

    assert (len(book.withdrawals), book.left_out) == (2, 3)


def test_the_audience_of_a_call_makes_no_difference() -> None:
    [found] = followed(
        (1, opening("a", audience=Audience.PUBLIC, partner="public", client=None, subject=None)),
        (10, order("model", "gpt2-774m")),
        (11, ended("a", Reason.MODEL_WITHDRAWN)),
    )

    assert found.ended.total() == 1
