"""Recorded calls under two policies: who gains, who loses, and what a record leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from issuer import ISSUER, NOW
from policies import agreement, policy, release

from sluicegate.auth import Denied, Policy
from sluicegate.auth.errors import RecordError
from sluicegate.auth.recorded import MAX_RECORD_BYTES, RecordedCall, read_records
from sluicegate.auth.simulation import MAX_GROUPS, OTHER, Group, Shift, Tally, replay, simulate


def record(**changes: Any) -> dict[str, Any]:
    """A partner's call to a model of its agreement; a change to None takes a member away."""
    members = {
        "at": NOW,
        "issuer": ISSUER,
        "client": "lab-app",
        "scopes": ["generate:gpt2-774m", "generate:gpt2-124m"],
        "action": "generate",
        "model": "gpt2-774m",
        "purpose": "human-susceptibility",
        **changes,
    }
    return {name: value for name, value in members.items() if value is not None}


def call(**changes: Any) -> RecordedCall:
    return RecordedCall.model_validate(record(**changes))


BEFORE = policy(None, agreement())


def becomes(after: Policy, before: Policy = BEFORE, **changes: Any) -> Group:
    return replay(before, after, call(**changes))


def test_a_call_that_nothing_changes_for_is_served_as_before() -> None:
    assert becomes(BEFORE) == Group(Shift.SERVED, "example-lab", f"lab-app of {ISSUER}", "gpt2-774m", "generate", "")


def test_a_partner_loses_with_its_agreement() -> None:
    lost = becomes(policy(None, agreement(status="suspended")))

    assert (lost.shift, lost.partner, lost.reason) == (Shift.LOST, "example-lab", "AGREEMENT_NOT_ACTIVE")


def test_the_public_gains_with_a_stage() -> None:
    gained = becomes(policy(release(active="s3")), client="some-app")

    assert (gained.shift, gained.partner, gained.reason) == (Shift.GAINED, "public", "MODEL_NOT_RELEASED")


def test_other_terms_are_a_change_that_names_them() -> None:
    changed = becomes(policy(None, agreement(output={}, quotas={"output_tokens_per_call": 8})))

    assert (changed.shift, changed.reason) == (Shift.CHANGED, "watermark, redaction, stop_flagged, quotas")


def test_another_highest_priority_is_another_term() -> None:
    changed = becomes(policy(None, agreement(max_priority=3)))

    assert (changed.shift, changed.reason) == (Shift.CHANGED, "max_priority")


def test_a_call_that_is_refused_either_way_is_nobody_s_gain_or_loss() -> None:
    refused = becomes(policy(release(active="s1"), agreement()), client="some-app")

    assert (refused.shift, refused.reason) == (Shift.REFUSED, "MODEL_NOT_RELEASED")


def test_a_call_without_a_token_is_judged_as_one() -> None:
    plan = release()
    plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 8}}

    gained = becomes(policy(plan, agreement()), issuer=None, client=None, scopes=None, model="gpt2-124m")

    assert (gained.shift, gained.client, gained.reason) == (Shift.GAINED, "", "TOKEN_MISSING")


def test_a_pseudonym_is_a_client_that_no_policy_knows() -> None:
    pseudonym = "9f86d081884c7d659a2feaa0c55ad015"

    assert becomes(BEFORE, client=pseudonym, model="gpt2-124m").partner == "public"


def test_a_model_of_neither_policy_is_not_told_by_the_caller_s_text() -> None:
    assert becomes(BEFORE, model="gpt2-unheard-of").model == OTHER


def test_the_agreement_that_the_token_named_stands_or_falls() -> None:
    ended = policy(None, agreement(status="terminated"))

    named, by_name = (becomes(ended, agreement=name, model="gpt2-124m") for name in ("agr-example-lab", None))

    assert (named.shift, by_name.shift) == (Shift.LOST, Shift.CHANGED)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"max_lifetime": "899s", "binding": "mtls"}, "TOKEN_LIFETIME_EXCESSIVE"),
        ({"max_lifetime": "900s", "acr": ["urn:example:acr:key"]}, "STEP_UP_REQUIRED"),
        ({"max_auth_age": "7h"}, "STEP_UP_REQUIRED"),
        ({"max_auth_age": "8h", "acr": ["urn:example:acr:key", "urn:example:acr:mfa"]}, ""),
    ],
)
def test_what_a_record_leaves_out_just_met_the_terms_before(terms: dict[str, Any], reason: str) -> None:
    assert becomes(policy(None, agreement(token=terms))).reason == reason


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"token_lifetime": 901}, "TOKEN_LIFETIME_EXCESSIVE"),
        ({"bound": False}, "TOKEN_BINDING_REQUIRED"),
        ({"acr": "pwd"}, "STEP_UP_REQUIRED"),
        ({"authenticated_ago": 28_801}, "STEP_UP_REQUIRED"),
        ({"address": "198.51.100.7"}, "NETWORK_NOT_PERMITTED"),
        ({"network": 1}, "NETWORK_NOT_PERMITTED"),
    ],
)
def test_what_a_record_states_counts(facts: dict[str, Any], reason: str) -> None:
    principal, peer = call(**facts).caller(BEFORE)

    outcome = BEFORE.decide(principal, call(**facts).request, peer, NOW)

    assert isinstance(outcome, Denied)
    assert outcome.reason == reason


def test_a_network_by_its_number_is_that_of_the_agreement_before() -> None:
    before = policy(None, agreement(networks=["192.0.2.0/24", "2001:db8::/32"]))
    after = policy(None, agreement(networks=["192.0.2.0/24"]))

    kept, lost = (becomes(after, before, network=index) for index in (0, 1))

    assert (kept.shift, lost.shift, lost.reason) == (Shift.SERVED, Shift.LOST, "NETWORK_NOT_PERMITTED")


@pytest.mark.parametrize(("at", "shift"), [(NOW + 0.5, Shift.SERVED), (1_801_000_000.5, Shift.REFUSED)])
def test_time_is_that_of_the_call(at: float, shift: Shift) -> None:
    assert becomes(BEFORE, at=at).shift is shift


def test_calls_are_counted_by_who_what_and_why() -> None:
    after = policy(release(active="s3"), agreement(status="suspended"))
    calls = [
        call(),
        call(),
        call(client="some-app"),
        call(client="other-app"),
        call(client="some-app", model="gpt2-124m"),
    ]

    tally = simulate(BEFORE, after, calls)

    assert dict(tally.totals) == {Shift.CHANGED: 2, Shift.GAINED: 2, Shift.SERVED: 1}
    assert tally.by("client", Shift.GAINED) == {f"some-app of {ISSUER}": 1, f"other-app of {ISSUER}": 1}
    assert tally.by("partner", Shift.GAINED) == {"public": 2}
    assert not tally.is_unchanged


def test_the_number_of_groups_is_bounded_and_no_call_is_lost() -> None:
    tally = Tally()

    for number in range(MAX_GROUPS + 500):
        tally.add(Group(Shift.LOST, "public", f"client-{number}", "gpt2-124m", "generate", "SCOPE_MISSING"))

    assert len(tally.groups) == MAX_GROUPS + 1
    assert tally.by("client", Shift.LOST)[OTHER] == 500
    assert tally.groups.total() == tally.totals.total() == MAX_GROUPS + 500


def test_records_are_read_one_by_one() -> None:
    taken = 0

    def lines() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield json.dumps(record()).encode() + b"\n"

    records = read_records(lines())
    next(records)
    next(records)

    assert taken == 2


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"nonsense", "line 3: Expecting value"),
        (b"[]", "line 3: Input should be"),
        (b'{"at": 1, "at": 2}', "line 3: a member appears twice"),
        (json.dumps(record(action="train")).encode(), "line 3: action: Input should be 'generate' or 'score'"),
        (json.dumps(record(model="GPT")).encode(), "line 3: model: write a model id"),
        (json.dumps(record(prompt="secret")).encode(), "line 3: prompt: Extra inputs are not permitted"),
        (json.dumps(record(at="today")).encode(), "line 3: at: "),
        (json.dumps(record(at=-1)).encode(), "line 3: at: "),
        (json.dumps(record(client=None)).encode(), "line 3: `issuer` and `client` stand together"),
        (json.dumps(record(address="here")).encode(), "line 3: address: "),
        (json.dumps(record(bound=1)).encode(), "line 3: bound: "),
        (b" " * MAX_RECORD_BYTES + b"{}", f"line 3: is longer than {MAX_RECORD_BYTES} bytes"),
    ],
)
def test_a_line_that_is_no_record_is_named(line: bytes, text: str) -> None:
    good = json.dumps(record()).encode()

    with pytest.raises(RecordError) as caught:
        list(read_records([good, b"\n", line]))

    assert str(caught.value).startswith(text)
    assert "secret" not in str(caught.value)
