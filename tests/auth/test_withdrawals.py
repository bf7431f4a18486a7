"""What operators have closed: it narrows, and nothing of it ever opens anything. test_decision.py has the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from issuer import ISSUER
from policies import policy, release

from sluicegate.auth import Audience, IssuedBefore, Withdrawals, anonymous

MODELS = ("gpt2-124m", "gpt2-355m", "gpt2-774m", "gpt2-1558m", "gpt2-next")
OPEN = st.dictionaries(st.sampled_from(MODELS), st.sampled_from([each.value for each in Audience]), max_size=5)


def test_nothing_is_withdrawn_from_a_caller_who_has_no_token() -> None:
    nobody = anonymous()
    everything = Withdrawals(
        tokens=frozenset({("", "")}),
        keys=frozenset({("", "")}),
        clients=frozenset({("", "")}),
        subjects=frozenset({("", "")}),
        issued_before=(IssuedBefore("", 1),),
    )

    assert not everything.close_token(nobody)
    assert not everything.close_caller(nobody)


def test_a_token_that_is_not_anonymous_but_has_the_same_parts_is_closed() -> None:
    somebody = replace(anonymous(), anonymous=False, issuer=ISSUER)

    assert Withdrawals(issued_before=(IssuedBefore(ISSUER, 1),)).close_token(somebody)


def stages(*opened: Mapping[str, str]) -> list[dict[str, object]]:
    return [{"id": f"s{index}", "name": "a stage", "open": dict(each)} for index, each in enumerate(opened)]


def test_an_earlier_stage_cannot_open_what_the_active_one_has_closed() -> None:
    first, second = {"gpt2-124m": "public", "gpt2-774m": "public"}, {"gpt2-124m": "partner", "gpt2-355m": "public"}
    active = policy(release(stages=stages(first, second), active="s1", transitions=[]))

    narrowed = active.under(Withdrawals(stages=frozenset({"s0"})))

    assert (narrowed.stage.id, dict(narrowed.stage.open)) == ("s0", {"gpt2-124m": Audience.PARTNER})


def test_a_policy_without_the_withdrawals_is_as_it_was() -> None:
    active = policy()

    narrowed = active.under(Withdrawals(stages=frozenset({"s1"}))).under(Withdrawals())

    assert narrowed.stage == active.stage
    assert narrowed.revision == active.revision


@settings(deadline=None)
@given(
    opened=st.lists(OPEN, min_size=1, max_size=4),
    active=st.integers(0, 3),
    back_to=st.frozensets(st.sampled_from(["s0", "s1", "s2", "s3"])),
)
def test_going_back_never_opens_a_model_wider(
    opened: list[Mapping[str, str]], active: int, back_to: frozenset[str]
) -> None:
    before = policy(release(stages=stages(*opened), active=f"s{min(active, len(opened) - 1)}", transitions=[]))

    after = before.under(Withdrawals(stages=back_to))

    assert not after.stage.opens_wider_than(before.stage)


@pytest.mark.parametrize("kind", ["tokens", "keys", "clients", "subjects", "agreements", "models", "stages"])
def test_each_kind_is_empty_unless_it_is_given(kind: str) -> None:
    assert getattr(Withdrawals(), kind) == frozenset()
