"""From claims to a principal: exact types, bounds, and the claim that is named in a refusal."""

from __future__ import annotations

from typing import Any

import pytest
from issuer import AUDIENCE, ISSUER, NOW, claims

from sluicegate.auth import AuthenticationError, Reason
from sluicegate.auth.claims import audience_claim, optional_time_claim, principal_of

DETAIL: dict[str, Any] = {"type": "model_partnership", "agreement": "agr-1"}


def refused_claim(**changes: object) -> str:
    with pytest.raises(AuthenticationError) as caught:
        principal_of({**claims(), **changes}, "key-1")
    assert caught.value.reason is Reason.TOKEN_CLAIMS_INVALID
    return caught.value.detail["claim"]


def test_the_required_claims_make_a_principal() -> None:
    principal = principal_of(claims(), "key-1")

    assert (principal.issuer, principal.subject, principal.client_id) == (ISSUER, "alice", "app")
    assert (principal.issued_at, principal.expires_at, principal.key_id) == (NOW, NOW + 900, "key-1")
    assert principal.scopes == {"generate:gpt2-124m"}
    assert not principal.anonymous


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iat", "1770000000"),
        ("exp", NOW + 0.5),
        ("exp", True),
        ("exp", NOW),
        ("iat", 253_402_300_800),
        ("auth_time", NOW + 31),
        ("auth_time", None),
        ("sub", ""),
        ("client_id", "a\u200bb"),
        ("jti", 7),
        ("iss", None),
        ("acr", ""),
        ("acr", None),
        ("scope", ["a"]),
        ("cnf", {"x5t#S256": "A" * 42}),
        ("cnf", {"jkt": "A" * 43}),
        ("authorization_details", {}),
        ("authorization_details", [{"agreement": "agr-1"}]),
    ],
)
def test_a_refusal_names_the_claim(name: str, value: object) -> None:
    assert refused_claim(**{name: value}) == name


def test_clocks_may_differ_by_30_s_at_authentication() -> None:
    assert principal_of(claims(auth_time=NOW + 30), "k").authenticated_at == NOW + 30


def test_a_time_that_is_absent_is_not_one_that_is_null() -> None:
    assert optional_time_claim({}, "nbf") is None
    with pytest.raises(AuthenticationError):
        optional_time_claim({"nbf": None}, "nbf")


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE]])
def test_there_is_one_audience(audience: object) -> None:
    assert audience_claim({"aud": audience}) == AUDIENCE


def test_details_of_other_apis_are_passed_over() -> None:
    principal = principal_of(claims(authorization_details=[{"type": "payment", "amount": 1}, DETAIL]), "k")

    [detail] = principal.authorization_details
    assert (detail.agreement, detail.models, detail.actions, detail.purpose) == ("agr-1", None, None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"anything": 1},
        {"models": []},
        {"models": [f"m{number}" for number in range(33)]},
        {"actions": [""]},
        {"purpose": None},
        {"limits": {"requests": 1}},
        {"limits": {"requests_per_minute": 1.0}},
        {"agreement": None},
    ],
)
def test_a_detail_that_could_not_be_kept_to_is_refused(change: dict[str, Any]) -> None:
    assert refused_claim(authorization_details=[{**DETAIL, **change}]) == "authorization_details"
