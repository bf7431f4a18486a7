"""As whom a caller reports on a model, rule by rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from issuer import ISSUER, NOW, PEER
from policies import agreement, policy

from sluicegate.auth import Audience, AuthorizationDetail, Denied, Principal, Standing, Withdrawals

OWN, PUBLIC, OTHERS, CLOSED = "gpt2-774m", "gpt2-355m", "gpt2-1558m", "gpt2-next"
PLAIN: dict[str, Any] = {"networks": [], "token": {}, "hours": None}
TERMS = agreement(**PLAIN)


def caller(client: str, agreement: str | None = None) -> Principal:
    """A client, whose token may name an agreement."""
    claimed = () if agreement is None else (AuthorizationDetail(agreement, None, None, None, {}),)
    return Principal(
        issuer=ISSUER,
        subject="alice",
        client_id=client,
        token_id="token-1",
        key_id="key-1",
        scopes=frozenset({"findings:write"}),
        authorization_details=claimed,
        issued_at=NOW,
        expires_at=NOW + 900,
        authenticated_at=None,
        acr=None,
        certificate_thumbprint=None,
    )


LAB, CLAIMING = caller("lab-app"), caller("lab-app", "agr-example-lab")
STRANGER, INSIDER = caller("app"), caller("eval-team")


def standing(who: Principal, model: str | None, *agreements: dict[str, Any]) -> Any:
    return policy(None, *(agreements or (TERMS,))).standing(who, model, PEER, NOW)


def reason(outcome: Any) -> str:
    assert isinstance(outcome, Denied)
    return outcome.reason.value


@pytest.mark.parametrize("model", [OWN, PUBLIC, "gpt2-124m", None])
@pytest.mark.parametrize("who", [LAB, CLAIMING], ids=["by name", "by token"])
def test_partner_reports_for_itself_on_its_models_and_on_public_ones(who: Principal, model: str | None) -> None:
    found = standing(who, model)

    assert isinstance(found, Standing)
    assert (found.audience, found.partner) == (Audience.PARTNER, "example-lab")
    assert found.agreement is not None


@pytest.mark.parametrize(
    ("who", "model", "partner"),
    [
        (STRANGER, PUBLIC, "public"),
        (STRANGER, None, "public"),
        (INSIDER, CLOSED, "internal"),
        (INSIDER, OTHERS, "internal"),
    ],
)
def test_others_report_for_their_client(who: Principal, model: str | None, partner: str) -> None:
    found = standing(who, model)

    assert isinstance(found, Standing)
    assert (found.partner, found.agreement) == (partner, None)


@pytest.mark.parametrize(
    ("who", "model"),
    [(LAB, OTHERS), (LAB, CLOSED), (LAB, "none"), (STRANGER, OWN), (INSIDER, "none")],
)
def test_model_that_the_caller_may_not_know_of_is_not_released_to_it(who: Principal, model: str) -> None:
    outcome = standing(who, model)

    assert outcome == Denied(outcome.reason, {"stage": "s2"})
    assert reason(outcome) == "MODEL_NOT_RELEASED"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "draft"}, "AGREEMENT_NOT_ACTIVE"),
        ({"status": "terminated"}, "AGREEMENT_NOT_ACTIVE"),
        ({"valid": {"from": "2026-03-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}}, "AGREEMENT_NOT_ACTIVE"),
        ({"valid": {"from": "2025-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}}, "AGREEMENT_EXPIRED"),
        ({"networks": ["198.51.100.0/24"]}, "NETWORK_NOT_PERMITTED"),
        ({"token": {"max_lifetime": "60s"}}, "TOKEN_LIFETIME_EXCESSIVE"),
        ({"token": {"binding": "mtls"}}, "TOKEN_BINDING_REQUIRED"),
        ({"token": {"acr": ["urn:example:acr:mfa"]}}, "STEP_UP_REQUIRED"),
    ],
)
@pytest.mark.parametrize("model", [OWN, PUBLIC, None])
def test_agreement_must_hold_and_its_terms_for_tokens_be_met(
    model: str | None, changes: dict[str, Any], expected: str
) -> None:
    assert reason(standing(LAB, model, agreement(**{**PLAIN, **changes}))) == expected


def test_withdrawn_agreement_does_not_hold() -> None:
    narrowed = policy(None, TERMS).under(Withdrawals(agreements=frozenset({"agr-example-lab"})))

    assert reason(narrowed.standing(LAB, PUBLIC, PEER, NOW)) == "AGREEMENT_WITHDRAWN"


@pytest.mark.parametrize(
    "changes",
    [
        {"hours": {"weekdays": "07:00-07:01", "mode": "enforce"}},
        {"purposes": ["human-susceptibility"]},
        {"actions": ["score"]},
    ],
)
def test_what_limits_the_use_of_models_limits_no_report(changes: dict[str, Any]) -> None:
    assert isinstance(standing(LAB, OWN, agreement(**{**PLAIN, **changes})), Standing)


@pytest.mark.parametrize("model", [OWN, PUBLIC, "none", None])
def test_claim_to_what_is_not_the_callers_is_refused_whatever_the_model(model: str | None) -> None:
    stolen, unknown = caller("app", "agr-example-lab"), caller("app", "agr-nowhere")

    assert reason(standing(stolen, model)) == "AGREEMENT_CLIENT_MISMATCH"
    assert reason(standing(unknown, model)) == "AGREEMENT_UNKNOWN"


def test_of_several_agreements_the_one_that_names_the_model_is_reported_under() -> None:
    second = agreement(id="agr-a", models=[OTHERS], **PLAIN)

    found = [standing(LAB, model, TERMS, second).agreement.id for model in (OWN, OTHERS)]

    assert found == ["agr-example-lab", "agr-a"]


def test_agreements_in_force_are_those_that_hold_by_id() -> None:
    held, ended, draft = agreement(id="agr-b"), agreement(id="agr-c"), agreement(id="agr-d", status="draft")
    ended["valid"] = {"from": "2025-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    clients = [[{"issuer": "https://issuer.example", "client": f"client-{number}"}] for number in range(4)]
    closed = agreement(id="agr-a")
    every = [{**each, "clients": names} for each, names in zip((held, ended, draft, closed), clients, strict=True)]
    loaded = policy(None, *every)

    assert [each.id for each in loaded.agreements_in_force(NOW)] == ["agr-a", "agr-b"]
    narrowed = replace(loaded, withdrawals=Withdrawals(agreements=frozenset({"agr-a"})))
    assert [each.id for each in narrowed.agreements_in_force(NOW)] == ["agr-b"]
