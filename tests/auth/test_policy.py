"""One revision of the policy and what can be asked of it; test_decision.py has the decisions."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from policies import agreement, policy, release

from sluicegate.auth import Audience, AuthorizationDetail, anonymous


def test_a_revision_cannot_be_changed() -> None:
    loaded = policy()

    with pytest.raises(FrozenInstanceError):
        loaded.revision = "0"  # type: ignore[misc]
    with pytest.raises(TypeError):
        loaded.agreements["x"] = loaded.agreements  # type: ignore[index]


def test_a_revision_is_shown_by_its_first_16_characters() -> None:
    loaded = policy()

    assert len(loaded.revision) == 64
    assert loaded.revision.startswith(loaded.shown_revision)
    assert len(loaded.shown_revision) == 16


@pytest.mark.parametrize(
    ("model", "directory"),
    [
        ("gpt2-124m", None),
        ("gpt2-1558m", Path("/policy/weights/gpt2-xl")),
        ("gpt2-next", Path("/models/next")),
    ],
)
def test_weights_are_in_a_directory_or_on_the_hub(model: str, directory: Path | None) -> None:
    assert policy().weights_directory(model) == directory


def test_agreements_in_force_come_first_for_their_clients() -> None:
    old = agreement(id="agr-a-old", status="terminated")

    found = policy(None, old, agreement()).agreements_by_client["https://issuer.example", "lab-app"]

    assert [each.id for each in found] == ["agr-example-lab", "agr-a-old"]


def test_a_caller_without_a_token_is_the_public() -> None:
    loaded = policy()

    assert not loaded.serves_anonymous
    assert loaded.audience_of(anonymous()) is Audience.PUBLIC
    assert loaded.agreement_of(anonymous()) is None


def test_models_are_listed_in_the_order_of_the_plan() -> None:
    plan = release()

    assert list(policy(plan).models) == list(plan["models"])


@pytest.mark.parametrize(
    ("client", "details", "partner"),
    [
        ("lab-app", (), "example-lab"),
        ("eval-team", (), "internal"),
        ("somebody", (), "public"),
        # Another's agreement makes nobody its partner, and hides nobody's own.
        ("somebody", ("agr-example-lab",), "public"),
        ("lab-app", ("agr-other",), "example-lab"),
        ("other-app", ("agr-other",), "other-lab"),
        ("lab-app", ("agr-nowhere",), "example-lab"),
    ],
)
def test_a_caller_is_of_its_clients_partner_whatever_its_token_claims(
    client: str, details: tuple[str, ...], partner: str
) -> None:
    clients = [{"issuer": "https://issuer.example", "client": "other-app"}]
    loaded = policy(None, agreement(), agreement(id="agr-other", partner="other-lab", clients=clients))
    claimed = tuple(AuthorizationDetail(id_, None, None, None, {}) for id_ in details)
    caller = replace(anonymous(), issuer="https://issuer.example", client_id=client, authorization_details=claimed)

    assert loaded.partner_of(replace(caller, anonymous=False)) == partner


def test_a_client_name_means_nothing_at_another_issuer() -> None:
    caller = replace(anonymous(), issuer="https://elsewhere.example", client_id="lab-app", anonymous=False)

    assert policy(None, agreement()).partner_of(caller) == "public"
    assert policy(None, agreement()).partner_of(anonymous()) == "public"
