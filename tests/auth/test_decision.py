"""The decision table, row by row, and what must hold of every decision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from issuer import ISSUER, NOW, PEER
from policies import agreement, policy, release

from sluicegate.auth import (
    AccessRequest,
    Audience,
    AuthorizationDetail,
    Denied,
    Grant,
    IssuedBefore,
    Peer,
    Policy,
    Principal,
    Reason,
    Withdrawals,
    anonymous,
)

TABLE = yaml.safe_load((Path(__file__).parent / "decision_table.yaml").read_text())
THUMBPRINT = "A" * 43
MODELS = ("gpt2-124m", "gpt2-355m", "gpt2-774m", "gpt2-1558m", "gpt2-next")
SCOPES = frozenset(f"{action}:{model}" for action in ("generate", "score", "logprobs") for model in MODELS)


def policy_of(plan_changes: Mapping[str, Any], agreement_changes: Mapping[str, Any]) -> Policy:
    return _policy_of(json.dumps(plan_changes), json.dumps(agreement_changes))


@cache
def _policy_of(plan_changes: str, agreement_changes: str) -> Policy:
    plan, changes = release(), json.loads(plan_changes)
    for model, term in changes.pop("watermarks", {}).items():
        plan["models"][model]["watermark"] = term
    if changes.pop("serves_anonymous", False):
        plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 64}}
    return policy({**plan, **changes}, agreement(**json.loads(agreement_changes)))


def principal_of(facts: Mapping[str, Any], now: float) -> Principal:
    if facts.get("anonymous"):
        return anonymous()
    details: tuple[AuthorizationDetail, ...] = ()
    if (claims := facts.get("claims")) is not None:
        detail = AuthorizationDetail(
            agreement=claims.get("agreement", "agr-example-lab"),
            actions=frozenset(claims["actions"]) if "actions" in claims else None,
            models=frozenset(claims["models"]) if "models" in claims else None,
            purpose=claims.get("purpose"),
            limits=claims.get("limits", {}),
        )
        details = (detail,)
    ago = facts.get("authenticated_ago")
    return Principal(
        issuer=ISSUER,
        subject="alice",
        client_id=facts["client"],
        token_id="token-1",
        key_id="key-1",
        scopes=frozenset(facts["scopes"].split()) if "scopes" in facts else SCOPES,
        authorization_details=details,
        issued_at=int(now),
        expires_at=int(now) + facts.get("lifetime", 900),
        authenticated_at=int(now) - ago if ago is not None else None,
        acr=facts.get("acr"),
        certificate_thumbprint=THUMBPRINT if facts.get("bound") else None,
    )


def withdrawals_of(facts: Mapping[str, Any], now: float) -> Withdrawals:
    def of_issuer(kind: str) -> frozenset[tuple[str, str]]:
        return frozenset((ISSUER, name) for name in facts.get(kind, ()))

    return Withdrawals(
        tokens=of_issuer("tokens"),
        issued_before=tuple(
            IssuedBefore(ISSUER, int(now) + each["seconds"], each.get("client"), each.get("subject"))
            for each in facts.get("issued_before", ())
        ),
        keys=of_issuer("keys"),
        clients=of_issuer("clients"),
        subjects=of_issuer("subjects"),
        agreements=frozenset(facts.get("agreements", ())),
        models=frozenset(facts.get("models", ())),
        stages=frozenset(facts.get("stages", ())),
    )


Question = tuple[Principal, AccessRequest, Peer, float]


def question(case: Mapping[str, Any]) -> tuple[Policy, Question]:
    now = datetime.fromisoformat(case["at"]).timestamp() if "at" in case else NOW
    principal = principal_of({**TABLE["everyone"][case["who"]], **case.get("token", {})}, now)
    action, model = case["what"].split()
    asked = {"purpose": "human-susceptibility", **case.get("request", {})}
    address = case.get("peer", {}).get("address", "192.0.2.7")
    peer = Peer(ip_address(address) if address else None, THUMBPRINT)
    decider = policy_of(case.get("policy", {}), case.get("agreement", {}))
    if "withdrawn" in case:
        decider = decider.under(withdrawals_of(case["withdrawn"], now))
    return decider, (principal, AccessRequest(action, model, **asked), peer, now)


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
def test_the_decision_table(case: Mapping[str, Any]) -> None:
    decider, asked = question(case)

    outcome = decider.decide(*asked)

    if case["then"].startswith("granted as "):
        assert isinstance(outcome, Grant)
        assert outcome.partner == case["then"].removeprefix("granted as ")
        assert outcome.max_output_tokens == case.get("output", outcome.max_output_tokens)
        assert outcome.outside_hours == case.get("outside_hours", outcome.outside_hours)
    else:
        _, reason = case["then"].split()
        assert outcome == Denied(Reason(reason), case.get("facts", {}))


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
def test_an_explanation_ends_as_the_decision_does(case: Mapping[str, Any]) -> None:
    decider, asked = question(case)

    checks = decider.explain(*asked)

    outcome = decider.decide(*asked)
    assert [check.row for check in checks] == sorted(check.row for check in checks)
    assert [check.denied for check in checks if check.passed is False] == (
        [outcome] if isinstance(outcome, Denied) else []
    )
    states = [check.passed for check in checks]
    assert states == sorted(states, key=[True, False, None].index)


def test_every_reason_of_rows_9_and_12_to_16_stands_in_the_table() -> None:
    rows = [reason.value for reason in Reason]
    policy_rows = rows[rows.index("SCOPE_MISSING") : rows.index("WITHDRAWALS_STALE")]

    tested = {case["then"].split()[1] for case in TABLE["cases"]} | {"TOKEN_LIFETIME_EXCESSIVE"}

    assert {*policy_rows, "TOKEN_WITHDRAWN", "CALLER_WITHDRAWN"} <= tested


def test_names_of_cases_are_unique() -> None:
    names = [case["name"] for case in TABLE["cases"]]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("who", ["stranger", "partner", "claimant"])
def test_a_model_that_is_denied_and_one_that_does_not_exist_answer_alike(who: str) -> None:
    decider, (principal, request, peer, now) = question({"who": who, "what": "generate gpt2-next"})
    knowing = replace(principal, scopes=SCOPES | {"generate:gpt2-unheard-of"})

    denied = decider.decide(knowing, request, peer, now)
    unknown = decider.decide(knowing, replace(request, model="gpt2-unheard-of"), peer, now)

    assert denied == unknown == Denied(Reason.MODEL_NOT_RELEASED, {"stage": "s2"})


def granted(case: Mapping[str, Any]) -> Grant:
    decider, asked = question(case)
    outcome = decider.decide(*asked)
    assert isinstance(outcome, Grant)
    return outcome


def test_a_partner_grant_carries_the_terms_of_its_agreement() -> None:
    grant = granted({"who": "partner", "what": "generate gpt2-774m"})

    assert (grant.watermark, grant.redaction, grant.stop_flagged) == (True, "pii", True)
    assert (grant.audience, grant.agreement, grant.stage) == (Audience.PARTNER, "agr-example-lab", "s2")
    assert grant.quotas.concurrent_streams == 4
    assert grant.expires_at == NOW + 900


def test_a_public_grant_carries_no_terms_but_the_public_quotas() -> None:
    grant = granted({"who": "stranger", "what": "generate gpt2-124m"})

    assert (grant.watermark, grant.redaction, grant.stop_flagged) == (False, None, False)
    assert (grant.audience, grant.agreement) == (Audience.PUBLIC, None)
    assert grant.quotas.concurrent_streams == 2


def test_a_grant_ends_with_its_agreement_if_that_is_first() -> None:
    grant = granted({"who": "partner", "what": "generate gpt2-774m", "at": "2027-01-19T23:59:00+00:00"})

    assert grant.expires_at == datetime.fromisoformat("2027-01-20T00:00:00+00:00").timestamp()


def test_a_call_without_a_token_ends_after_an_hour() -> None:
    grant = granted({"who": "nobody", "what": "generate gpt2-124m", "policy": {"serves_anonymous": True}})

    assert grant.expires_at == NOW + 3600
    assert grant.quotas.concurrent_streams == 2


def test_a_client_of_two_agreements_claims_the_one_that_covers_the_call() -> None:
    second = agreement(
        id="agr-second", models=["gpt2-1558m"], purposes=[], networks=[], token={}, output={}, hours=None
    )
    both = policy(None, agreement(), second)
    principal = principal_of(TABLE["everyone"]["partner"], NOW)

    outcomes = [
        both.decide(
            principal,
            AccessRequest("generate", model, "human-susceptibility"),
            Peer(PEER.address, THUMBPRINT),
            NOW,
        )
        for model in ("gpt2-774m", "gpt2-1558m")
    ]

    assert [getattr(outcome, "agreement", None) for outcome in outcomes] == ["agr-example-lab", "agr-second"]


def test_an_ended_agreement_does_not_hide_the_one_that_follows_it() -> None:
    old = agreement(id="agr-a-old", status="terminated")
    following = policy(None, old, agreement())
    principal = principal_of(TABLE["everyone"]["partner"], NOW)
    request = AccessRequest("generate", "gpt2-774m", "human-susceptibility")

    outcome = following.decide(principal, request, Peer(PEER.address, THUMBPRINT), NOW)

    assert isinstance(outcome, Grant)
    assert outcome.agreement == "agr-example-lab"


@pytest.mark.parametrize("first", ["agr-a-old", "agr-nowhere"])
def test_a_token_that_names_an_agreement_with_its_successor_uses_the_one_in_force(first: str) -> None:
    following = policy(None, agreement(id="agr-a-old", status="terminated"), agreement())
    details = tuple(AuthorizationDetail(name, None, None, None, {}) for name in (first, "agr-example-lab"))
    principal = replace(principal_of(TABLE["everyone"]["partner"], NOW), authorization_details=details)
    request = AccessRequest("generate", "gpt2-774m", "human-susceptibility")

    outcome = following.decide(principal, request, Peer(PEER.address, THUMBPRINT), NOW)

    assert isinstance(outcome, Grant)
    assert outcome.agreement == "agr-example-lab"


@pytest.mark.parametrize(
    ("who", "models"),
    [
        ("stranger", ("gpt2-124m", "gpt2-355m")),
        ("nobody", ("gpt2-124m", "gpt2-355m")),
        ("partner", ("gpt2-124m", "gpt2-355m", "gpt2-774m")),
        ("claimant", ("gpt2-124m", "gpt2-355m", "gpt2-774m")),
        ("insider", MODELS),
    ],
)
def test_a_caller_may_know_of_the_models_that_it_may_use(who: str, models: tuple[str, ...]) -> None:
    principal = principal_of(TABLE["everyone"][who], NOW)

    assert policy(None, agreement()).visible_models(principal, NOW) == models


def test_a_partner_without_an_agreement_in_force_knows_of_public_models_only() -> None:
    principal = principal_of(TABLE["everyone"]["partner"], NOW)
    suspended = policy(None, agreement(status="suspended"))

    assert suspended.visible_models(principal, NOW) == ("gpt2-124m", "gpt2-355m")


def test_a_stranger_who_names_an_agreement_learns_nothing_of_it() -> None:
    principal = principal_of({**TABLE["everyone"]["claimant"], "client": "mallory"}, NOW)
    decider = policy(None, agreement())

    assert decider.visible_models(principal, NOW) == ("gpt2-124m", "gpt2-355m")
    assert decider.agreement_of(principal) is None
    assert decider.audience_of(principal) is Audience.PARTNER


def test_a_partner_is_told_its_own_terms() -> None:
    told = policy(None, agreement()).identify(principal_of(TABLE["everyone"]["partner"], NOW))

    assert told.agreement is not None
    assert (told.agreement.id, told.audience, told.stage) == ("agr-example-lab", Audience.PARTNER, "s2")


def test_a_method_without_a_model_needs_its_scope() -> None:
    decider = policy()
    principal = replace(principal_of({"client": "app"}, NOW), scopes=frozenset({"findings:write"}))

    assert decider.check_scope(principal, "findings:write") is None
    assert decider.check_scope(principal, None) is None
    assert decider.check_scope(principal, "findings:read") == Denied(
        Reason.SCOPE_MISSING, {"required_scope": "findings:read"}
    )
    assert decider.check_scope(anonymous(), None) == Denied(Reason.TOKEN_MISSING)


def test_a_caller_may_be_refused_before_its_request_is_read() -> None:
    principal = principal_of({"client": "app"}, NOW)
    closed = policy().under(Withdrawals(clients=frozenset({(ISSUER, "app")})))

    assert policy().check_caller(principal) is None
    assert policy().check_caller(anonymous()) == Denied(Reason.TOKEN_MISSING)
    assert closed.check_caller(principal) == Denied(Reason.CALLER_WITHDRAWN)
    assert closed.check_scope(principal, None) == Denied(Reason.CALLER_WITHDRAWN)


OTHER_ISSUER = "https://other.example"


@pytest.mark.parametrize(
    "elsewhere",
    [
        Withdrawals(tokens=frozenset({(OTHER_ISSUER, "token-1")})),
        Withdrawals(keys=frozenset({(OTHER_ISSUER, "key-1")})),
        Withdrawals(clients=frozenset({(OTHER_ISSUER, "app")})),
        Withdrawals(subjects=frozenset({(OTHER_ISSUER, "alice")})),
        Withdrawals(issued_before=(IssuedBefore(OTHER_ISSUER, NOW + 1),)),
    ],
    ids=["token", "key", "client", "subject", "issued before"],
)
def test_what_is_withdrawn_at_one_issuer_is_good_at_another(elsewhere: Withdrawals) -> None:
    assert policy().under(elsewhere).check_caller(principal_of({"client": "app"}, NOW)) is None


def test_a_partner_of_a_withdrawn_agreement_knows_of_public_models_only() -> None:
    closed = policy(None, agreement()).under(Withdrawals(agreements=frozenset({"agr-example-lab"})))
    principal = principal_of(TABLE["everyone"]["partner"], NOW)

    assert closed.visible_models(principal, NOW) == ("gpt2-124m", "gpt2-355m")


def test_who_may_use_a_model_still_knows_of_it_when_it_is_withdrawn() -> None:
    closed = policy(None, agreement()).under(Withdrawals(models=frozenset({"gpt2-124m", "gpt2-next"})))
    principal = principal_of(TABLE["everyone"]["stranger"], NOW)

    assert closed.visible_models(principal, NOW) == ("gpt2-124m", "gpt2-355m")
    assert (closed.is_withdrawn("gpt2-124m"), closed.is_withdrawn("gpt2-355m")) == (True, False)
    assert not policy().is_withdrawn("gpt2-124m")


@pytest.mark.parametrize(
    ("age", "audience", "is_served"),
    [
        (0.0, Audience.PARTNER, True),
        (5.0, Audience.PARTNER, True),
        (5.01, Audience.PARTNER, False),
        (5.01, Audience.INTERNAL, False),
        (5.01, Audience.PUBLIC, True),
        (None, Audience.PUBLIC, True),
        (None, Audience.PARTNER, False),
        (None, Audience.INTERNAL, False),
    ],
)
def test_a_list_of_withdrawals_that_is_too_old_serves_only_whom_the_policy_says(
    age: float | None, audience: Audience, is_served: bool
) -> None:
    decider = policy(release(on_state_lost={"public": "serve", "partner": "refuse"}))

    denied = decider.check_age(audience, age)

    assert denied == (None if is_served else Denied(Reason.WITHDRAWALS_STALE))


def test_without_a_word_in_the_policy_nobody_is_served_under_a_list_that_is_too_old() -> None:
    plan = release()
    del plan["on_state_lost"]

    assert [policy(plan).check_age(audience, 6.0) for audience in Audience] == [Denied(Reason.WITHDRAWALS_STALE)] * 3


def test_an_explanation_without_the_list_of_withdrawals_does_not_speak_of_them() -> None:
    decider, asked = question({"who": "stranger", "what": "generate gpt2-124m"})

    rows = [check.row for check in decider.explain(*asked)]
    with_the_list = [check.row for check in decider.under(Withdrawals()).explain(*asked)]

    assert (9 in rows, 9 in with_the_list) == (False, True)


SUBSETS = st.none() | st.frozensets(st.sampled_from(MODELS), min_size=1)


@settings(deadline=None)
@given(
    client=st.sampled_from(["some-app", "lab-app", "eval-team", ""]),
    scopes=st.frozensets(st.sampled_from(sorted(SCOPES))),
    named=st.none() | st.sampled_from(["agr-example-lab", "agr-nowhere"]),
    models=SUBSETS,
    actions=st.none() | st.frozensets(st.sampled_from(["generate", "score"]), min_size=1),
    limit=st.none() | st.integers(1, 2000),
    action=st.sampled_from(["generate", "score"]),
    model=st.sampled_from([*MODELS, "gpt2-unheard-of"]),
    stage=st.sampled_from(["s1", "s2", "s3"]),
    status=st.sampled_from(["active", "suspended", "draft", "terminated"]),
)
def test_no_decision_grants_more_than_the_intersection(
    *,
    client: str,
    scopes: frozenset[str],
    named: str | None,
    models: frozenset[str] | None,
    actions: frozenset[str] | None,
    limit: int | None,
    action: str,
    model: str,
    stage: str,
    status: str,
) -> None:
    changes = {"status": status, "networks": [], "token": {}, "purposes": [], "output": {}}
    decider, terms = policy_of({"active": stage}, changes), agreement(**changes)
    limits = {} if limit is None else {"output_tokens_per_call": limit}
    details = (AuthorizationDetail(named, actions, models, None, limits),) if named else ()
    principal = replace(principal_of({"client": client}, NOW), scopes=scopes, authorization_details=details)

    outcome = decider.decide(principal, AccessRequest(action, model), PEER, NOW)

    if isinstance(outcome, Denied):
        return
    assert f"{action}:{model}" in scopes
    assert action == "generate" or f"logprobs:{model}" in scopes
    assert decider.stage.open[model] <= outcome.audience
    if client != "eval-team":
        assert outcome.audience is not Audience.INTERNAL
    if outcome.audience is Audience.PARTNER:
        assert (client, status) == ("lab-app", "active")
        assert model in terms["models"]
        assert action in terms["actions"]
    if named:
        assert (client, status, named) == ("lab-app", "active", "agr-example-lab")
        assert models is None or model in models
        assert actions is None or action in actions
        assert outcome.max_output_tokens is not None
        assert outcome.max_output_tokens <= min(512, limit or 512)
