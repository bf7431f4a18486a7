"""`sluicegate policy diff`: in words, as data, and by its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from auth_cli import run
from policies import agreement, release, write_policy


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "old", None, agreement())


def test_the_same_policy_is_no_difference(old: Path, tmp_path: Path) -> None:
    new = write_policy(tmp_path / "new", None, agreement())

    result = run("policy", "diff", old, new)

    assert (result.exit_code, result.stdout) == (0, "No difference.\n")


def test_a_change_is_told_in_words_with_what_opens_first(old: Path, tmp_path: Path) -> None:
    suspended, added = (
        agreement(status="suspended"),
        agreement(id="agr-next", partner="next-lab", models=["gpt2-1558m"]),
    )
    new = write_policy(tmp_path / "new", release(active="s3"), suspended, added)

    result = run("policy", "diff", old, new)

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "opens    stage in force: s2 -> s3",
        "opens    stage in force: open.gpt2-774m: partner -> public",
        "opens    agreement agr-next: + active, with next-lab",
        "closes   agreement agr-example-lab: status: active -> suspended",
        "Opens wider.",
        "Needs a transition signed by as many signers as the settings say.",
        "Needs one signature over each agreement and internal client that needs it.",
    ]


def test_a_change_that_only_closes_says_so_and_needs_nobody(old: Path, tmp_path: Path) -> None:
    new = write_policy(tmp_path / "new", release(active="s1"), agreement())

    lines = run("policy", "diff", old, new).stdout.splitlines()

    assert lines[-1] == "Opens nothing."
    assert {line.split()[0] for line in lines[:-1]} == {"closes"}


def test_a_change_is_told_as_data(old: Path, tmp_path: Path) -> None:
    new = write_policy(tmp_path / "new", None, agreement(purposes=["human-susceptibility", "study"]))

    result = run("policy", "diff", old, new, "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "opens_wider": True,
        "signatures": ["one"],
        "differences": [
            {
                "subject": "agreement agr-example-lab",
                "field": "purposes",
                "before": None,
                "after": "study",
                "effect": "opens",
                "signature": "one",
            }
        ],
    }


@pytest.mark.parametrize("bad", ["old", "new"])
def test_a_policy_that_is_not_good_is_not_compared(old: Path, tmp_path: Path, bad: str) -> None:
    write_policy(tmp_path / "new", None, agreement())
    (tmp_path / bad / "release.yaml").write_text("active: s1\n")

    result = run("policy", "diff", old, tmp_path / "new")

    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"{tmp_path / bad}:\nrelease.yaml: ")


def test_what_a_terminal_would_obey_is_not_written(old: Path, tmp_path: Path) -> None:
    plan = release()
    plan["models"]["gpt2-124m"]["description"] = "\x1b[2Jgone"
    new = write_policy(tmp_path / "new", plan, agreement())

    assert "\x1b" not in run("policy", "diff", old, new).output
