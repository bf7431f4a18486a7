"""The alerts as Prometheus' own tools judge them: they are well-formed, fire when they should, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from foreign import run

from tools.promql import Kind, words
from tools.scaled_rules import scaled_rules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "helm/sluicegate/files"
RULES = FILES / "rules.yaml"
CASES = sorted((ROOT / "tests/rules").glob("*.yaml"))
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]
WAITS = (0, 20)
"""By what a `for` is multiplied: none at all, and far too long."""


def mutants(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rule with one number doubled or halved (0 becomes 2), or another wait; what was changed, and the rule."""
    cut = list(words(rule["expr"]))
    for at, word in enumerate(cut):
        if word.kind is Kind.NUMBER:
            for changed in (2.0,) if float(word.text) == 0 else (2 * float(word.text), float(word.text) / 2):
                text = "".join(str(changed) if other == at else each.text for other, each in enumerate(cut))
                yield f"number {at}: {word.text} as {changed:g}", {**rule, "expr": text}
    for factor in WAITS if "for" in rule else ():
        minutes = int(rule["for"][:-1]) * factor
        yield f"for: {minutes}{rule['for'][-1]}", {**rule, "for": f"{minutes}{rule['for'][-1]}"}


def changes() -> Iterator[Any]:
    """Each alert with each of its mutants."""
    for number, rule in enumerate(ALERTS):
        for change, mutant in mutants(rule):
            yield pytest.param(number, mutant, id=f"{rule['alert']}-{rule['labels']['severity']}-{change}")


def test_promtool_accepts_the_rules_as_they_are_and_sixty_times_as_fast(tmp_path: Path) -> None:
    fast = tmp_path / "fast.yaml"
    fast.write_text(scaled_rules(RULES.read_text(encoding="utf-8"), 60))

    checked = run("promtool", "check", "rules", "--lint-fatal", RULES, fast)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_amtool_accepts_the_example_for_alertmanager() -> None:
    checked = run("amtool", "check-config", FILES / "alertmanager.yaml")

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=TemplateCampaign", "severity=page", "area=misuse"), "partner-care-pages"),
        (("alertname=VolumeSpike", "severity=ticket", "area=misuse"), "partner-care-tickets"),
        (("alertname=AuditStopped", "severity=page", "area=control"), "operators-pages"),
        (("alertname=ReplicaDown", "severity=ticket", "area=service"), "operators-tickets"),
    ],
)
def test_alerts_reach_those_whom_they_are_for(labels: tuple[str, ...], receiver: str) -> None:
    routed = run("amtool", "config", "routes", "test", "--config.file", FILES / "alertmanager.yaml", *labels)

    assert routed.stdout.strip() == receiver


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_alert_fires_when_it_should_and_only_then(file: Path) -> None:
    tested = run("promtool", "test", "rules", file)

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("name", sorted({rule["alert"] for rule in ALERTS}))
def test_cases_hold_with_no_rules_but_their_own(name: str, tmp_path: Path) -> None:
    """Else the next test would take a rule that is missing for a mutant that was found."""
    assert holds(name, ALERTS, tmp_path)


@pytest.mark.parametrize(("number", "mutant"), list(changes()))
def test_another_threshold_or_wait_breaks_a_case(number: int, mutant: dict[str, Any], tmp_path: Path) -> None:
    alerts = [mutant if at == number else rule for at, rule in enumerate(ALERTS)]

    assert not holds(mutant["alert"], alerts, tmp_path)


def holds(name: str, alerts: list[dict[str, Any]], directory: Path) -> bool:
    """Whether the cases of an alert hold with these alerts, as far as the cases name them, and what they record."""
    cases = yaml.safe_load((ROOT / f"tests/rules/{name}.yaml").read_text(encoding="utf-8"))
    text = str(cases)
    kept = [rule for rule in alerts if f'alertname="{rule["alert"]}"' in text]
    used = " ".join(rule["expr"] for rule in kept)
    records = [rule for group in GROUPS for rule in group["rules"] if "record" in rule and rule["record"] in used]
    rules = directory / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "some", "rules": [*records, *kept]}]}))
    file = directory / "cases.yaml"
    file.write_text(yaml.safe_dump({**cases, "rule_files": [str(rules)]}))
    tested = run("promtool", "test", "rules", file)
    assert "FAILED" in tested.stdout + tested.stderr or tested.returncode == 0, tested.stdout + tested.stderr
    return tested.returncode == 0
