"""Who gains and who loses between two policies, caller by caller."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from issuer import ISSUER, NOW
from policies import Document, agreement, policy, release

from sluicegate.auth import Policy, Reason, Withdrawals
from sluicegate.auth.access_changes import AccessChange, AccessChanges, Subject, access_changes
from sluicegate.auth.errors import ComparisonError
from sluicegate.auth.simulation import Shift

PUBLIC, ANONYMOUS = Subject(), Subject(anonymous=True)
LAB, TEAM = Subject(ISSUER, "lab-app"), Subject(ISSUER, "eval-team")
BEFORE = policy(None, agreement())


def changes(after: Policy, before: Policy = BEFORE, most: int = 1_000) -> AccessChanges:
    return access_changes(before, after, NOW, most=most)


def told(found: AccessChanges) -> set[tuple[str, Subject, str, str]]:
    assert found.left_out == 0
    return {(each.shift.value, each.subject, each.model, each.action) for each in found.shown}


def lenient(**members: Any) -> Document:
    return agreement(**{"output": {}, **members})


def test_the_same_policy_changes_nothing() -> None:
    assert changes(BEFORE) == AccessChanges((), 0)


def test_a_stage_gives_the_public_a_model_and_partners_whose_agreement_leaves_it_out() -> None:
    after = policy(release(active="s3"), agreement(models=["gpt2-124m"]))
    before = policy(None, agreement(models=["gpt2-124m"]))

    found = changes(after, before)

    assert told(found) == {
        ("gained", subject, "gpt2-774m", action) for subject in (PUBLIC, LAB) for action in ("generate", "score")
    }
    assert found.shown[0] == AccessChange(
        Shift.GAINED, PUBLIC, "gpt2-774m", "generate", "public", None, Reason.MODEL_NOT_RELEASED
    )


def test_a_partner_loses_with_its_agreement_what_is_not_public() -> None:
    found = changes(policy(None, agreement(status="suspended")))

    assert told(found) == {("lost", LAB, "gpt2-774m", action) for action in ("generate", "score")}
    [first, _] = found.shown
    assert (first.partner, first.agreement, first.reason) == (
        "example-lab",
        "agr-example-lab",
        Reason.AGREEMENT_NOT_ACTIVE,
    )


def test_a_client_that_an_agreement_takes_in_gains_what_the_agreement_covers() -> None:
    clients = [{"issuer": ISSUER, "client": name} for name in ("lab-app", "lab-new")]

    found = changes(policy(None, agreement(clients=clients)))

    assert told(found) == {
        ("gained", Subject(ISSUER, "lab-new"), "gpt2-774m", action) for action in ("generate", "score")
    }


def test_an_internal_client_that_is_taken_out_loses_what_was_internal() -> None:
    found = changes(policy(release(internal={"clients": []}), agreement()))

    assert {(each.shift, each.subject, each.partner) for each in found.shown} == {(Shift.LOST, TEAM, "internal")}
    assert {each.model for each in found.shown} == {"gpt2-774m", "gpt2-1558m", "gpt2-next"}


def test_callers_without_a_token_gain_generation_alone() -> None:
    plan = release()
    plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 8}}

    found = changes(policy(plan, agreement()))

    assert told(found) == {("gained", ANONYMOUS, model, "generate") for model in ("gpt2-124m", "gpt2-355m")}
    assert {each.reason for each in found.shown} == {Reason.TOKEN_MISSING}


def test_stricter_terms_for_tokens_networks_and_hours_take_nothing_from_those_who_meet_them() -> None:
    stricter = lenient(
        token={"max_lifetime": "60s", "binding": "mtls", "acr": ["urn:example:acr:key"], "max_auth_age": "1m"},
        networks=["198.51.100.0/24"],
        hours={"weekends": "00:00-00:01", "mode": "enforce"},
        purposes=["another-purpose"],
    )

    assert changes(policy(None, stricter), policy(None, lenient())) == AccessChanges((), 0)


def test_an_action_that_an_agreement_no_longer_covers_is_lost() -> None:
    found = changes(policy(None, agreement(actions=["score"])))

    assert told(found) == {("lost", LAB, "gpt2-774m", "generate")}
    assert found.shown[0].reason is Reason.ACTION_NOT_PERMITTED


def test_what_operators_closed_is_nobodys_gain() -> None:
    closed = Withdrawals(models=frozenset({"gpt2-774m"}), clients=frozenset({(ISSUER, "lab-new")}))
    clients = [{"issuer": ISSUER, "client": name} for name in ("lab-app", "lab-new")]
    after = policy(release(active="s3"), agreement(clients=clients, models=["gpt2-124m", "gpt2-1558m"]))

    found = changes(after.under(closed), BEFORE.under(closed))

    assert told(found) == {("gained", LAB, "gpt2-1558m", action) for action in ("generate", "score")}


def test_a_closed_client_does_not_change_with_others_of_its_kind() -> None:
    closed = Withdrawals(clients=frozenset({(ISSUER, "lab-two")}))
    both = [{"issuer": ISSUER, "client": name} for name in ("lab-two", "lab-app")]
    before, after = (policy(None, agreement(clients=both, status=status)) for status in ("active", "suspended"))

    assert {each.subject for each in changes(after.under(closed), before.under(closed)).shown} == {LAB}


def test_a_stage_gone_back_to_stays_in_force_under_a_wider_policy() -> None:
    closed = Withdrawals(stages=frozenset({"s1"}))

    assert changes(policy(release(active="s3"), agreement()).under(closed), BEFORE.under(closed)) == AccessChanges(
        (), 0
    )


def test_clients_of_whom_both_policies_know_the_same_change_alike() -> None:
    many = [{"issuer": ISSUER, "client": f"app-{number}"} for number in range(50)]
    before, after = policy(None, agreement(clients=many)), policy(None, agreement(clients=many, status="suspended"))

    found = changes(after, before)

    assert {each.subject.client for each in found.shown} == {each["client"] for each in many}
    assert len(found.shown) == 100


def test_what_is_not_shown_is_counted() -> None:
    found = changes(policy(release(active="s3"), agreement(status="suspended")), most=1)

    [first] = found.shown
    assert first.subject == PUBLIC
    assert found.left_out == len(changes(policy(release(active="s3"), agreement(status="suspended"))).shown) - 1 > 0


def test_policies_that_are_too_large_are_refused_rather_than_looked_at_for_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sluicegate.auth.access_changes.MAX_COMPARED", 50)

    with pytest.raises(ComparisonError, match="4 kinds of callers and 5 models"):
        changes(BEFORE)


def test_a_client_under_many_ended_agreements_weighs_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = [agreement(id=f"agr-{number}", status="terminated") for number in range(40)]
    large = policy(None, *ended)
    monkeypatch.setattr("sluicegate.auth.access_changes.MAX_COMPARED", 800)

    with pytest.raises(ComparisonError):
        changes(large, large)


def test_hours_do_not_change_what_the_policies_are() -> None:
    enforced = policy(None, lenient(hours={"weekends": "00:00-00:01", "mode": "enforce"}))

    changes(enforced, enforced)

    assert enforced.agreements["agr-example-lab"].hours is not None
    assert replace(enforced) == enforced
