"""The clauses: one table for the template, for the data and for what enforces it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from policies import agreement
from pydantic import BaseModel

from sluicegate.auth import Reason
from sluicegate.auth.agreements import Agreement
from sluicegate.auth.clauses import CLAUSES, Clause, clause_of
from sluicegate.auth.grant import Quotas

DOCS = Path(__file__).parents[2] / "docs"
TEMPLATE = (DOCS / "agreement-template.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (\d+)\. (.+?)\n(.*?)(?=^## |\Z)", TEMPLATE, re.DOTALL | re.MULTILINE)
ROWS = dict(re.findall(r"^\| (\d+) \| (.*)$", (DOCS / "access.md").read_text(encoding="utf-8"), re.MULTILINE))
FIELDS = [term.field for clause in CLAUSES for term in clause.terms]


def terms(**changes: Any) -> Agreement:
    return Agreement.model_validate(agreement(**changes))


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all that can stand in an agreement; a list and the quotas are each one."""
    for name, field in model.model_fields.items():
        dotted = f"{prefix}{field.alias or name}"
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        nested = [kind for kind in kinds if issubclass(kind, BaseModel) and kind is not Quotas]
        if nested and dotted not in ("signature", "clients"):
            yield from leaves(nested[0], f"{dotted}.")
        else:
            yield dotted


def enforcements() -> Iterator[tuple[Clause, str]]:
    """Each clause under terms that it enforces, with what refuses a call."""
    strict = terms(hours={"weekdays": "07:00-22:00", "mode": "enforce"})
    for clause in CLAUSES:
        if (enforcement := clause.enforcement(strict)) is not None:
            yield from ((clause, f"{enforcement.row} {reason}") for reason in enforcement.reasons)


def test_every_term_of_an_agreement_belongs_to_one_clause() -> None:
    assert sorted(FIELDS) == sorted(leaves(Agreement))
    assert clause_of("output.watermark").title == "Watermark"


def test_clauses_are_numbered_in_order() -> None:
    assert [clause.number for clause in CLAUSES] == list(range(1, len(CLAUSES) + 1))


def test_the_template_has_the_clauses_of_the_table_with_their_data() -> None:
    of_template = [
        (int(number), title, re.search(r"^\*Data:\* (.+)\.$", text, re.MULTILINE)) for number, title, text in SECTIONS
    ]

    assert [(number, title, data and data[1]) for number, title, data in of_template] == [
        (clause.number, clause.title, ", ".join(f"`{term.field}`" for term in clause.terms) or "none")
        for clause in CLAUSES
    ]


def test_the_template_says_on_top_that_it_is_no_legal_advice() -> None:
    assert "**This is no legal advice" in TEMPLATE.partition("## 1.")[0]


@pytest.mark.parametrize(("clause", "refusal"), list(enforcements()), ids=str)
def test_a_clause_is_refused_by_the_row_that_has_its_reason(clause: Clause, refusal: str) -> None:
    row, reason = refusal.split()

    assert f"`{reason}`" in ROWS[row]


def test_what_an_agreement_is_about_is_refused_by_one_clause_each() -> None:
    reasons = {refusal.partition(" ")[2] for _, refusal in enforcements()}
    of_agreements = {reason for reason in Reason if reason.startswith("AGREEMENT_")} - {Reason.AGREEMENT_REQUIRED}

    assert of_agreements <= reasons
    assert {"PURPOSE_NOT_PERMITTED", "ACTION_NOT_PERMITTED", "NETWORK_NOT_PERMITTED", "OUTSIDE_HOURS"} <= reasons
    assert {"TOKEN_LIFETIME_EXCESSIVE", "TOKEN_BINDING_REQUIRED", "STEP_UP_REQUIRED"} <= reasons


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("purposes", {"purposes": None}),
        ("legal.non_commercial", {}),
        ("token.binding", {"token": {"binding": "none"}}),
        ("token.acr", {"token": {"max_lifetime": "15m"}}),
        ("networks", {"networks": None}),
        ("hours.mode", {"hours": None}),
        ("quotas", {"quotas": {}}),
        ("output.watermark", {"output": {}}),
        ("output.redaction", {"output": {}}),
        ("findings.due_every", {"findings": None}),
    ],
)
def test_nothing_is_said_to_be_enforced_where_a_term_is_left_out(field: str, changes: dict[str, Any]) -> None:
    assert clause_of(field).enforcement(terms(**changes)) is None


@pytest.mark.parametrize(
    ("field", "changes", "row", "reasons"),
    [
        ("token.binding", {"token": {"max_lifetime": "15m"}}, 15, ["TOKEN_LIFETIME_EXCESSIVE"]),
        ("token.binding", {"token": {"binding": "mtls"}}, 15, ["TOKEN_BINDING_REQUIRED"]),
        ("token.acr", {"token": {"max_auth_age": "8h"}}, 15, ["STEP_UP_REQUIRED"]),
        ("hours.mode", {"hours": {"weekdays": "07:00-22:00"}}, None, []),
        ("quotas", {"quotas": {"output_tokens_per_call": 5}}, None, []),
        ("quotas", {"quotas": {"scored_tokens_per_day": 5, "output_tokens_per_day": 5}}, 19, ["DAILY_TOKEN_QUOTA"]),
        ("output.watermark", {"output": {"watermark": "where_possible"}}, None, []),
        ("output.watermark", {"output": {"watermark": "required"}}, 16, ["OUTPUT_TERMS_CONFLICT"]),
        ("output.redaction", {"output": {"redaction": "pii"}}, 16, ["OUTPUT_TERMS_CONFLICT"]),
        ("output.flagged", {"output": {"flagged": "stop"}}, None, []),
    ],
)
def test_what_is_enforced_depends_on_the_terms(
    field: str, changes: dict[str, Any], row: int | None, reasons: list[str]
) -> None:
    enforcement = clause_of(field).enforcement(terms(**changes))

    assert enforcement is not None
    assert (enforcement.row, list(enforcement.reasons)) == (row, reasons)


def test_every_quota_is_enforced() -> None:
    for name in Quotas.model_fields:
        assert clause_of("quotas").enforcement(terms(quotas={name: 5})) is not None


def test_a_clause_that_nothing_enforces_is_left_to_people() -> None:
    everything = terms(hours={"mode": "enforce"})

    assert all(clause.enforcement(everything) or clause.left_to_people for clause in CLAUSES)
