"""Agreements: dates, hours, names, and what is refused in one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from policies import agreement

from sluicegate.auth import Agreement
from sluicegate.auth.agreements import RESERVED_PARTNERS, HourTerms
from sluicegate.auth.errors import PolicyError
from sluicegate.auth.loading import validated


def read(**changes: Any) -> Agreement:
    return validated(Agreement, "lab.yaml", agreement(**changes))


def problem(**changes: Any) -> str:
    with pytest.raises(PolicyError) as caught:
        read(**changes)
    return str(caught.value)


def test_an_agreement_names_clients_together_with_their_issuer() -> None:
    terms = read()

    assert terms.names("https://issuer.example", "lab-app")
    assert not terms.names("https://other.example", "lab-app")
    assert not terms.names("https://issuer.example", "LAB-APP")


@pytest.mark.parametrize("name", sorted(RESERVED_PARTNERS))
def test_a_partner_is_not_called_what_means_something_else_in_metrics(name: str) -> None:
    assert f"a partner cannot be called {name}" in problem(partner=name)


@pytest.mark.parametrize(
    ("status", "may"), [("draft", False), ("active", True), ("suspended", True), ("terminated", False)]
)
def test_drafts_and_terminated_agreements_cover_nothing(status: str, may: bool) -> None:
    assert read(status=status).may_come_into_force is may


@pytest.mark.parametrize("until", ["2026-01-20T00:00:00Z", "2026-01-19T00:00:00Z"])
def test_a_term_ends_after_it_begins(until: str) -> None:
    text = problem(valid={"from": "2026-01-20T00:00:00Z", "until": until})

    assert "lab.yaml: valid: `until` must come after `from`" in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"clients": []}, "clients: must have at least one entry"),
        ({"models": []}, "models: must have at least one entry"),
        ({"token": {"acr": ["a b"]}}, "token.acr.0: write an acr as 1 to 255 ASCII characters without spaces"),
        ({"token": {"acr": ["a", "a"]}}, "token.acr: an entry stands here twice"),
        ({"models": "gpt2-124m"}, "models: must be a list"),
        ({"models": ["gpt2-124m", "gpt2-124m"]}, "models: an entry stands here twice"),
        ({"actions": ["train"]}, "actions.0: must be 'generate' or 'score'"),
        ({"status": "on"}, "status: must be 'draft', 'active', 'suspended' or 'terminated'"),
        ({"quotas": {"concurrent_streams": 0}}, "quotas.concurrent_streams: must be at least 1"),
        ({"quotas": {"concurrent_streams": 10**13}}, "quotas.concurrent_streams: must be at most 1000000000000"),
        ({"quotas": {"concurrent_streams": "4"}}, "quotas.concurrent_streams: must be a whole number"),
        ({"quotas": {"words_per_day": 4}}, "quotas.words_per_day: is not known here"),
        ({"quotas": None}, "quotas: is missing"),
        ({"legal": "a paper"}, "legal: must be a mapping of keys to values"),
        ({"hours": {"weekdays": "07:00-22:00", "mode": "maybe"}}, "hours.mode: must be 'signal' or 'enforce'"),
        ({"max_priority": 11}, "max_priority: "),
        ({"max_priority": -1}, "max_priority: "),
        ({"max_priority": "5"}, "max_priority: "),
        ({"id": "AGR"}, "id: write at most 63"),
        ({"partner": 12}, "partner: must be text; put quotes around"),
    ],
)
def test_a_refusal_names_the_field_and_says_what_to_do(changes: dict[str, Any], text: str) -> None:
    assert text in problem(**changes)


def test_lists_that_narrow_do_not_narrow_when_left_out() -> None:
    terms = read(purposes=None, networks=None, token=None, output=None, hours=None, findings=None)

    assert (terms.purposes, terms.networks, terms.hours, terms.findings) == ((), (), None, None)
    assert (terms.output.watermark, terms.output.redaction, terms.token.binding) == ("none", "none", "none")


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-02-02T06:59", False),
        ("2026-02-02T07:00", True),
        ("2026-02-02T21:59", True),
        ("2026-02-02T22:00", False),
        ("2026-02-07T12:00", False),
    ],
)
def test_hours_begin_on_the_minute_and_end_before_it(moment: str, inside: bool) -> None:
    hours = HourTerms.model_validate({"weekdays": "07:00-22:00"})

    assert hours.include(datetime.fromisoformat(moment).replace(tzinfo=UTC)) is inside


def test_weekends_have_hours_of_their_own() -> None:
    hours = HourTerms.model_validate({"weekends": "10:00-24:00"})

    assert hours.include(datetime(2026, 2, 7, 23, 59, tzinfo=UTC))
    assert not hours.include(datetime(2026, 2, 6, 23, 59, tzinfo=UTC))
