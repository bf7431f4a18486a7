"""Rules that run faster than life are the same rules."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.promql import Kind, milliseconds, words
from tools.scaled_rules import scaled_rules, with_links

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm/sluicegate/files/rules.yaml"

SMALL = """
groups:
  - name: g
    interval: 30s
    query_offset: 1m
    rules:
      - record: job:x:increase1h
        expr: sum by (job) (increase(x[1h]))
      - alert: A
        expr: job:x:increase1h > 600
        for: 5m
        keep_firing_for: 10m
        labels: {severity: page}
        annotations: {description: "over 600 in 5m", runbook_url: "https://runbooks.example/A.md"}
"""


def rules(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def test_all_times_of_a_rule_are_divided_and_its_words_stay() -> None:
    (group,) = yaml.safe_load(scaled_rules(SMALL, 60))["groups"]

    assert (group["interval"], group["query_offset"]) == ("500ms", "1s")
    assert group["rules"][0] == {"record": "job:x:increase1h", "expr": "sum by (job) (increase(x[1m]))"}
    assert group["rules"][1] == {
        "alert": "A",
        "expr": "job:x:increase1h > 600",
        "for": "5s",
        "keep_firing_for": "10s",
        "labels": {"severity": "page"},
        "annotations": {"description": "over 600 in 5m", "runbook_url": "https://runbooks.example/A.md"},
    }


def test_a_scale_of_one_changes_no_meaning() -> None:
    same = rules(scaled_rules(RULES.read_text(encoding="utf-8"), 1))

    for rule, before in zip(same, rules(RULES.read_text(encoding="utf-8")), strict=True):
        assert times(rule) == times(before)
        assert {**rule, "expr": "", "for": ""} == {**before, "expr": "", "for": ""}


def test_every_time_of_the_alerts_is_a_sixtieth() -> None:
    fast = rules(scaled_rules(RULES.read_text(encoding="utf-8"), 60))

    for rule, before in zip(fast, rules(RULES.read_text(encoding="utf-8")), strict=True):
        assert [60 * time for time in times(rule)] == times(before)
        assert numbers(rule) == numbers(before)


def times(rule: dict[str, Any]) -> list[int]:
    """All durations of a rule in milliseconds."""
    texts = [word.text for word in words(rule["expr"]) if word.kind is Kind.DURATION]
    return [milliseconds(text) for text in [*texts, *([rule["for"]] if "for" in rule else [])]]


def numbers(rule: dict[str, Any]) -> list[str]:
    return [word.text for word in words(rule["expr"]) if word.kind in (Kind.NUMBER, Kind.TEXT, Kind.NAME)]


@pytest.mark.parametrize("factor", [0, -60])
def test_a_scale_below_one_is_refused(factor: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        scaled_rules(SMALL, factor)


def test_addresses_are_filled_in_wherever_they_stand() -> None:
    text = with_links(RULES.read_text(encoding="utf-8"), "https://wiki.example.org/x/", "https://graphs.example.org")

    assert "https://wiki.example.org/x/ScopeProbing.md" in text
    assert "https://graphs.example.org/d/sluicegate-misuse" in text
    assert "runbooks.example" not in text
    assert "https://grafana.example/" not in text


def test_the_command_writes_rules_and_says_what_it_cannot_do() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.scaled_rules", str(RULES), *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)

    good, bad = run("--scale", "60", "--runbooks", "https://wiki.example.org"), run("--scale", "7")

    assert (good.returncode, good.stderr) == (0, "")
    assert rules(good.stdout)[-1]["annotations"]["runbook_url"].startswith("https://wiki.example.org/")
    assert bad.returncode == 1
    assert "divided by 7" in bad.stderr
