"""`sluicegate policy simulate`: counts in words, as data, and by its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from auth_cli import run
from issuer import ISSUER, NOW
from policies import agreement, release, write_policy

LINE = {
    "at": NOW,
    "issuer": ISSUER,
    "client": "some-app",
    "scopes": ["generate:gpt2-774m"],
    "action": "generate",
    "model": "gpt2-774m",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An old policy, a new one at a later stage, and a file of three calls."""
    write_policy(tmp_path / "old", None, agreement())
    write_policy(tmp_path / "new", release(active="s3"), agreement())
    lines = [LINE, LINE, {**LINE, "model": "gpt2-1558m", "scopes": []}]
    (tmp_path / "calls.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_who_gains_is_told_in_words(directory: Path) -> None:
    result = run(
        "policy", "simulate", directory / "new", "--old", directory / "old", "--requests", directory / "calls.jsonl"
    )

    assert result.exit_code == 1
    first, _, row = (line.rstrip() for line in result.stdout.splitlines())
    assert first == "3 calls: 2 gained, 0 lost, 0 changed, 0 served, 1 refused"
    assert row.split() == [
        "2",
        "gained",
        "public",
        "some-app",
        "of",
        ISSUER,
        "generate",
        "gpt2-774m",
        "MODEL_NOT_RELEASED",
    ]


def test_who_loses_is_told_as_data(directory: Path) -> None:
    result = run(
        "policy", "simulate", directory / "old", "--old", directory / "new", "--requests", "-", "--json",
        stdin=json.dumps(LINE),
    )  # fmt: skip

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "calls": 1,
        "totals": {"gained": 0, "lost": 1, "changed": 0, "served": 0, "refused": 0},
        "groups": [
            {
                "shift": "lost",
                "partner": "public",
                "client": f"some-app of {ISSUER}",
                "model": "gpt2-774m",
                "action": "generate",
                "reason": "MODEL_NOT_RELEASED",
                "calls": 1,
            }
        ],
    }


def test_a_change_that_nobody_would_notice_exits_with_0(directory: Path) -> None:
    result = run(
        "policy", "simulate", directory / "old", "--old", directory / "old", "--requests", directory / "calls.jsonl"
    )

    assert (result.exit_code, result.stdout) == (0, "3 calls: 0 gained, 0 lost, 0 changed, 0 served, 3 refused\n")


def test_a_long_file_shows_its_progress_beside_the_result(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.auth.simulate_command.PROGRESS_CALLS", 2)

    result = run(
        "policy", "simulate", directory / "old", "--old", directory / "old", "--requests", directory / "calls.jsonl"
    )

    assert result.stderr == "2 calls …\n"


@pytest.mark.parametrize("line", ["{}", "x" * 20_000])
def test_a_bad_record_ends_it_and_is_named(directory: Path, line: str) -> None:
    (directory / "calls.jsonl").write_text(json.dumps(LINE) + "\n" + line)

    result = run(
        "policy", "simulate", directory / "new", "--old", directory / "old", "--requests", directory / "calls.jsonl"
    )

    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"{directory}/calls.jsonl: line 2: ")


def test_a_bad_policy_ends_it(directory: Path) -> None:
    (directory / "new/release.yaml").write_text("active: s1\n")

    result = run(
        "policy", "simulate", directory / "new", "--old", directory / "old", "--requests", directory / "calls.jsonl"
    )

    assert (result.exit_code, result.stdout) == (3, "")
