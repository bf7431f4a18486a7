"""What a change of policy means: each difference, which way it goes, and whose signatures it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from issuer import ISSUER, NOW
from policies import Document, agreement, policy, release
from signers import signed_plan

from sluicegate.auth import AccessRequest, Grant, Peer, Principal
from sluicegate.auth.comparing import Comparison, compare
from sluicegate.auth.differences import Effect, Signing

Told = tuple[str, str, str | None, str | None, str, str]

OPENS, CLOSES, CHANGES, RECORDS = (effect.value for effect in Effect)
QUOTAS = {"concurrent_streams": 4, "requests_per_minute": 60, "output_tokens_per_call": 512}


def told(comparison: Comparison) -> list[Told]:
    return [
        (each.subject, each.field, each.before, each.after, each.effect.value, each.signing.value)
        for each in comparison.differences
    ]


def changed(**changes: Any) -> list[Told]:
    """The differences that changed members of a release.yaml without signed transitions make."""
    return told(compare(policy(release(transitions=[])), policy(release(transitions=[], **changes))))


def renegotiated(old: Document | None = None, **changes: Any) -> list[tuple[str, str | None, str | None, str]]:
    """The differences that changed terms of an agreement make, which need one signature as it is active."""
    before = agreement(**(old or {}))
    found = told(compare(policy(None, before), policy(None, agreement(**{**(old or {}), **changes}))))
    assert {(subject, signing) for subject, *_, signing in found} <= {("agreement agr-example-lab", "one")}
    return [(field, was, is_, effect) for _, field, was, is_, effect, _ in found]


def test_the_same_policy_in_other_words_is_no_difference() -> None:
    plan = dict(reversed(release().items()))

    assert told(compare(policy(None, agreement()), policy(plan, agreement()))) == []


def test_signatures_are_no_difference() -> None:
    signed = agreement(signature={"signer": "legal-lead", "value": "x"})

    assert told(compare(policy(None, agreement()), policy(None, signed))) == []


def test_a_stage_that_moves_on_opens_models() -> None:
    assert changed(active="s3") == [
        ("stage in force", "", "s2", "s3", OPENS, "transition"),
        ("stage in force", "open.gpt2-774m", "partner", "public", OPENS, "transition"),
    ]


def test_a_stage_that_moves_back_closes_models_and_needs_nobody() -> None:
    assert changed(active="s1") == [
        ("stage in force", "", "s2", "s1", CLOSES, "none"),
        ("stage in force", "open.gpt2-355m", "public", "nobody", CLOSES, "none"),
        ("stage in force", "open.gpt2-1558m", "partner", "nobody", CLOSES, "none"),
    ]


def test_a_stage_that_is_not_in_force_is_a_record() -> None:
    stages = release()["stages"]
    stages[2]["open"]["gpt2-1558m"] = "public"

    [(subject, field, _, after, effect, signing)] = changed(stages=stages)

    assert (subject, field, effect, signing) == ("stages", "s3", RECORDS, "none")
    assert after is not None
    assert "gpt2-1558m public" in after


def test_the_stage_in_force_widened_in_place_opens() -> None:
    stages = release()["stages"]
    stages[1]["open"]["gpt2-774m"] = "public"

    found = changed(stages=stages)

    assert ("stage in force", "open.gpt2-774m", "partner", "public", OPENS, "transition") in found


def test_once_a_transition_is_signed_any_other_change_of_the_plan_needs_one() -> None:
    before = signed_plan(("s1", "s2"))
    quotas = {**before["public"]["quotas"], "output_tokens_per_call": 100}
    after = {**before, "public": {**before["public"], "quotas": quotas}}

    assert told(compare(policy(before), policy(after))) == [
        ("public", "quotas.output_tokens_per_call", "256", "100", CLOSES, "transition")
    ]


def test_internal_clients_come_with_a_signature_and_go_without() -> None:
    clients = [{"issuer": ISSUER, "client": "red-team"}]

    assert changed(internal={"clients": clients}) == [
        ("internal", "clients", f"eval-team of {ISSUER}", None, CLOSES, "none"),
        ("internal", "clients", None, f"red-team of {ISSUER}", OPENS, "one"),
    ]


@pytest.mark.parametrize(
    ("public", "differences"),
    [
        ({"quotas": {"output_tokens_per_call": 512}}, [("quotas.output_tokens_per_call", "256", "512", OPENS)]),
        ({"quotas": {"output_tokens_per_call": 1}}, [("quotas.output_tokens_per_call", "256", "1", CLOSES)]),
        ({"quotas": {"output_tokens_per_call": None}}, [("quotas.output_tokens_per_call", "256", None, OPENS)]),
        ({"quotas": {"scored_tokens_per_day": 9}}, [("quotas.scored_tokens_per_day", None, "9", CLOSES)]),
    ],
)
def test_a_limit_that_rises_or_goes_opens(public: Mapping[str, Any], differences: list[Any]) -> None:
    quotas = {name: value for name, value in ({**release()["public"]["quotas"], **public["quotas"]}).items() if value}

    found = changed(public={"anonymous": "refuse", "quotas": quotas})

    assert [(field, *rest) for _, field, *rest, _ in found] == differences


def test_serving_callers_without_a_token_or_the_state_or_a_log_opens() -> None:
    plan = release()
    public = {**plan["public"], "anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 8}}

    lost = {"on_state_lost": {"public": "serve", "partner": "serve"}, "on_audit_lost": {"public": "serve"}}
    found = changed(public=public, **lost)

    assert ("public", "anonymous", "refuse", "serve", OPENS, "none") in found
    assert ("on_state_lost", "partner", "refuse", "serve", OPENS, "none") in found
    assert ("on_audit_lost", "public", "refuse", "serve", OPENS, "none") in found


def test_less_of_a_watermark_on_a_model_opens() -> None:
    def changes(before: str, after: str) -> list[Any]:
        plans = [release(), release()]
        for plan, term in zip(plans, (before, after), strict=True):
            plan["models"]["gpt2-124m"]["watermark"] = term
        return told(compare(*map(policy, plans)))

    assert changes("required", "where_possible") == [
        ("model gpt2-124m", "watermark", "required", "where_possible", OPENS, "transition")
    ]
    assert changes("where_possible", "none")[0][4] == OPENS
    assert changes("none", "where_possible")[0][4] == CLOSES


def test_other_weights_are_a_change_and_other_words_a_record() -> None:
    plan = release()
    plan["models"]["gpt2-124m"] |= {"source": "./elsewhere", "description": "small"}
    plan["models"]["gpt2-tiny"] = {"parameters": 1, "source": "./tiny", "license": "MIT"}

    assert [(subject, field, effect) for subject, field, _, _, effect, _ in changed(models=plan["models"])] == [
        ("model gpt2-124m", "source", CHANGES),
        ("model gpt2-124m", "description", RECORDS),
        ("model gpt2-tiny", "", RECORDS),
    ]


def test_agreements_come_and_go() -> None:
    draft = agreement(id="agr-next", status="draft", partner="next-lab")

    assert told(compare(policy(None, agreement()), policy(None, draft))) == [
        ("agreement agr-example-lab", "", "active, with example-lab", None, CLOSES, "none"),
        ("agreement agr-next", "", None, "draft, with next-lab", RECORDS, "none"),
    ]
    assert told(compare(policy(), policy(None, agreement()))) == [
        ("agreement agr-example-lab", "", None, "active, with example-lab", OPENS, "one")
    ]


@pytest.mark.parametrize(
    ("before", "after", "effect", "signing"),
    [
        ("draft", "active", OPENS, "one"),
        ("suspended", "active", OPENS, "one"),
        ("active", "suspended", CLOSES, "none"),
        ("active", "terminated", CLOSES, "none"),
        ("suspended", "terminated", RECORDS, "none"),
    ],
)
def test_an_agreement_changes_its_status(before: str, after: str, effect: str, signing: str) -> None:
    comparison = compare(policy(None, agreement(status=before)), policy(None, agreement(status=after)))

    assert told(comparison) == [("agreement agr-example-lab", "status", before, after, effect, signing)]


def test_terms_of_an_agreement_that_is_not_active_are_records() -> None:
    wider = agreement(status="suspended", models=["gpt2-124m", "gpt2-774m", "gpt2-1558m"])

    found = told(compare(policy(None, agreement()), policy(None, wider)))

    assert [(field, effect) for _, field, _, _, effect, _ in found] == [("status", CLOSES), ("models", RECORDS)]


TERMS: list[tuple[Document, Document, list[tuple[str, str | None, str | None, str]]]] = [
    (
        {},
        {"models": ["gpt2-124m", "gpt2-355m"]},
        [("models", "gpt2-774m", None, CLOSES), ("models", None, "gpt2-355m", OPENS)],
    ),
    ({}, {"actions": ["generate"]}, [("actions", "score", None, CLOSES)]),
    ({}, {"purposes": []}, [("purposes", "human-susceptibility", "any", OPENS)]),
    ({"purposes": []}, {"purposes": ["study"]}, [("purposes", "any", "study", CLOSES)]),
    ({}, {"networks": []}, [("networks", "192.0.2.0/24", "any", OPENS)]),
    ({}, {"networks": ["192.0.2.0/24", "192.0.2.0/28"]}, [("networks", None, "192.0.2.0/28", RECORDS)]),
    ({}, {"networks": ["192.0.2.0/24", "2001:db8::/32"]}, [("networks", None, "2001:db8::/32", OPENS)]),
    ({}, {"output": {"redaction": "pii", "flagged": "stop"}}, [("output.watermark", "required", "none", OPENS)]),
    (
        {"output": {"watermark": "where_possible"}},
        {"output": {"watermark": "required"}},
        [("output.watermark", "where_possible", "required", CLOSES)],
    ),
    (
        {"output": {"watermark": "where_possible"}},
        {"output": {}},
        [("output.watermark", "where_possible", "none", OPENS)],
    ),
    ({"output": {}}, {"output": {"redaction": "pii"}}, [("output.redaction", "none", "pii", CLOSES)]),
    ({"output": {}}, {"output": {"flagged": "stop"}}, [("output.flagged", "count", "stop", CLOSES)]),
    ({"token": {}}, {"token": {"binding": "mtls"}}, [("token.binding", "none", "mtls", CLOSES)]),
    ({"token": {"acr": ["mfa"]}}, {"token": {}}, [("token.acr", "mfa", "any", OPENS)]),
    (
        {"token": {"max_auth_age": "8h"}},
        {"token": {"max_auth_age": "1h"}},
        [("token.max_auth_age", "28800", "3600", CLOSES)],
    ),
    ({"token": {"max_lifetime": "15m"}}, {"token": {}}, [("token.max_lifetime", "900", None, OPENS)]),
    ({}, {"quotas": {**QUOTAS, "concurrent_streams": 8}}, [("quotas.concurrent_streams", "4", "8", OPENS)]),
    (
        {},
        {"valid": {"from": "2026-01-20T00:00:00Z", "until": "2028-01-20T00:00:00Z"}},
        [("valid.until", "2027-01-20T00:00:00Z", "2028-01-20T00:00:00Z", OPENS)],
    ),
    (
        {},
        {"valid": {"from": "2026-02-20T00:00:00Z", "until": "2027-01-20T00:00:00Z"}},
        [("valid.from", "2026-01-20T00:00:00Z", "2026-02-20T00:00:00Z", CLOSES)],
    ),
    ({}, {"max_priority": 3}, [("max_priority", "0", "3", OPENS)]),
    ({"max_priority": 3}, {"max_priority": 1}, [("max_priority", "3", "1", CLOSES)]),
    ({}, {"findings": None}, [("findings", "due_every: 7776000", None, RECORDS)]),
    ({}, {"timezone": "UTC"}, [("timezone", "America/New_York", "UTC", CHANGES)]),
    (
        {},
        {"clients": [{"issuer": ISSUER, "client": "lab-2"}]},
        [("clients", f"lab-app of {ISSUER}", None, CLOSES), ("clients", None, f"lab-2 of {ISSUER}", OPENS)],
    ),
    ({}, {"hours": None}, [("hours", "weekdays: 07:00-22:00; mode: signal", None, RECORDS)]),
    (
        {"hours": None},
        {"hours": {"weekdays": "07:00-22:00", "mode": "enforce"}},
        [("hours", None, "weekdays: 07:00-22:00; mode: enforce", CLOSES)],
    ),
    (
        {"hours": {"mode": "enforce"}},
        {"hours": {"mode": "signal"}},
        [("hours", "mode: enforce", "mode: signal", OPENS)],
    ),
]


@pytest.mark.parametrize(("old", "new", "differences"), TERMS)
def test_each_term_of_an_agreement_goes_one_way(old: Document, new: Document, differences: list[Any]) -> None:
    assert renegotiated(old, **new) == differences


def test_what_opens_decides_for_the_whole() -> None:
    opening, closing = (compare(policy(), policy(release(active=stage))) for stage in ("s3", "s1"))

    assert (opening.opens_wider, opening.signings) == (True, frozenset({Signing.TRANSITION}))
    assert (closing.opens_wider, closing.signings) == (False, frozenset())


NAMES = ("models", "actions", "purposes", "networks", "hours", "token", "output", "status", "valid", "clients")
CHANGED: Mapping[str, list[Any]] = {
    "models": [["gpt2-124m"], ["gpt2-774m", "gpt2-1558m"]],
    "actions": [["generate"], ["score"]],
    "purposes": [[], ["study"], ["study", "human-susceptibility"]],
    "networks": [[], ["192.0.2.0/28"], ["198.51.100.0/24"]],
    "hours": [None, {"weekdays": "09:00-10:00", "mode": "enforce"}],
    "token": [{}, {"acr": ["mfa"]}, {"max_lifetime": "10m"}],
    "output": [{}, {"watermark": "required"}],
    "status": ["suspended", "draft"],
    "valid": [{"from": "2026-03-20T00:00:00Z", "until": "2027-01-20T00:00:00Z"}],
    "clients": [[{"issuer": ISSUER, "client": "app"}]],
}
DOCUMENTS = st.fixed_dictionaries({}, optional={name: st.sampled_from(CHANGED[name]) for name in NAMES})
PRINCIPAL = Principal(
    issuer=ISSUER,
    subject="alice",
    client_id="lab-app",
    token_id="t",
    key_id="k",
    scopes=frozenset({"generate:gpt2-774m"}),
    authorization_details=(),
    issued_at=NOW,
    expires_at=NOW + 900,
    authenticated_at=NOW,
    acr="urn:example:acr:mfa",
    certificate_thumbprint="A" * 43,
)


def test_a_call_that_only_the_new_policy_allows_means_that_it_opens_or_changes_something() -> None:
    gained = 0

    @seed(7)
    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(DOCUMENTS, DOCUMENTS, st.sampled_from(["s1", "s2", "s3"]), st.sampled_from(["s1", "s2", "s3"]))
    def ask(old: Document, new: Document, stage: str, next_stage: str) -> None:
        nonlocal gained
        before, after = (
            policy(release(active=active), agreement(**terms)) for active, terms in ((stage, old), (next_stage, new))
        )
        request = AccessRequest("generate", "gpt2-774m", "human-susceptibility")
        peer = Peer(None, "A" * 43)

        was, is_ = (isinstance(each.decide(PRINCIPAL, request, peer, NOW), Grant) for each in (before, after))

        gained += is_ and not was
        if is_ and not was:
            effects = {each.effect for each in compare(before, after).differences}
            assert effects & {Effect.OPENS, Effect.CHANGES}

    ask()

    assert gained
