"""One revision of the policy and what can be asked of it; test_decision.py has the decisions."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from policies import agreement, policy, release

from sluicegate.auth import Audience, anonymous


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
