"""`sluicegate agreement check`: clause by clause, what is enforced and what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from auth_cli import run
from policies import agreement, write_policy
from signers import sign_agreement, signed_plan, trust_file

from sluicegate.auth.clauses import CLAUSES


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    terms = agreement(hours={"weekdays": "07:00-22:00", "mode": "enforce"}, networks=None)
    return write_policy(tmp_path / "policy", signed_plan(("s1", "s2")), sign_agreement(terms))


def test_every_clause_is_shown_with_its_terms_and_what_becomes_of_them(directory: Path) -> None:
    result = run("agreement", "check", directory)

    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "Signatures were not checked (no --trust).\n")
    assert lines[0].startswith("agr-example-lab with example-lab, active,")
    assert sum(line[:2].strip().isdecimal() for line in lines) == len(CLAUSES)
    at = lines.index(
        "11. Hours: timezone: America/New_York; hours.weekdays: 07:00-22:00; hours.weekends left out:"
        " outside, where there are hours; hours.mode: enforce"
    )
    assert lines[at + 1] == "    enforced: A call outside is refused. Row 14: OUTSIDE_HOURS"
    at = lines.index(" 5. Non-commercial use: legal.non_commercial: true")
    assert lines[at + 1] == "    left to people: All of it: what a text is used for, no server sees."
    at = lines.index("10. Networks: networks left out: from anywhere")
    assert lines[at + 1].startswith("11. ")


def test_nothing_is_left_to_people_that_was_not_agreed(directory: Path) -> None:
    write_policy(directory, None, agreement(purposes=None))

    shown = run("agreement", "check", directory).stdout

    assert "That the stated purpose is the true one." not in shown
    assert "18. Publication: no terms in the data\n    left to people: All of it.\n" in shown


def test_what_is_shown_is_told_to_scripts(directory: Path, tmp_path: Path) -> None:
    told = json.loads(run("agreement", "check", directory, "--trust", trust_file(tmp_path), "--json").stdout)

    [shown] = told["agreements"]
    clauses = {clause["title"]: clause for clause in shown["clauses"]}
    assert told["signatures_checked"]
    assert (shown["id"], shown["status"], shown["document_compared"]) == ("agr-example-lab", "active", False)
    assert clauses["Hours"]["enforced"] == {
        "text": "A call outside is refused.",
        "row": 14,
        "reasons": ["OUTSIDE_HOURS"],
    }
    assert clauses["Networks"] == {
        "number": 10,
        "title": "Networks",
        "terms": {"networks": None},
        "enforced": None,
        "left_to_people": None,
    }


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"status": "suspended"}, "suspended, not in force now (AGREEMENT_NOT_ACTIVE)"),
        (
            {"valid": {"from": "2020-01-01T00:00:00Z", "until": "2021-01-01T00:00:00Z"}},
            "active, not in force now (AGREEMENT_EXPIRED)",
        ),
        ({"valid": {"from": "2020-01-01T00:00:00Z", "until": "9000-01-01T00:00:00Z"}}, "active, in force now"),
    ],
)
def test_whether_it_is_in_force_is_said(directory: Path, changes: dict[str, object], state: str) -> None:
    write_policy(directory, None, agreement(**changes))

    assert run("agreement", "check", directory).stdout.startswith(
        f"agr-example-lab with example-lab, {state}: agreements/0.yaml\n"
    )


def test_one_of_several_is_chosen_by_its_id(directory: Path) -> None:
    other = agreement(id="agr-other", clients=[{"issuer": "https://issuer.example", "client": "other"}])
    write_policy(directory, None, agreement(), other)

    assert run("agreement", "check", directory).stdout.count(" 1. Parties:") == 2
    assert run("agreement", "check", directory, "agr-other").stdout.count(" 1. Parties:") == 1
    assert run("agreement", "check", directory, "agr-x").stderr == (
        "sluicegate: no agreement agr-x in this policy; it has agr-example-lab, agr-other\n"
    )


def test_a_document_is_bound_by_its_digest(directory: Path, tmp_path: Path) -> None:
    paper = tmp_path / "paper.pdf"
    paper.write_bytes(b"as agreed")
    digest = "2e17f3fdc7f0a0a7b6be9ad2e6d8dd5fb5ea1e1a0fbf8ff8b2b8d59b2be84cb0"
    legal = {**agreement()["legal"], "sha256": digest}
    write_policy(directory, None, agreement(legal=legal))

    wrong = run("agreement", "check", directory, "agr-example-lab", "--document", paper)
    legal["sha256"] = wrong.stderr.partition("its SHA-256 is ")[2][:64]
    write_policy(directory, None, agreement(legal=legal))
    right = run("agreement", "check", directory, "agr-example-lab", "--document", paper)

    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert f"legal.sha256 is {digest}" in wrong.stderr
    assert right.exit_code == 0
    assert right.stdout.endswith(f"{paper} is its document.\n")
    assert run("agreement", "check", directory, "--document", paper).exit_code == 2


def test_what_a_server_would_refuse_is_refused(directory: Path, tmp_path: Path) -> None:
    write_policy(directory, None, agreement())

    result = run("agreement", "check", directory, "--trust", trust_file(tmp_path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert "agreements/0.yaml: signature: must be a signer's signature" in result.stderr
