"""The alerts as Prometheus' own tools judge them: they are well-formed, fire when they should, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest
from alert_cases import ALERTS, ROOT, RULES, holds
from foreign import run

from tools.scaled_rules import scaled_rules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CASES = sorted((ROOT / "tests/rules").glob("*.yaml"))


def test_promtool_accepts_the_rules_as_they_are_and_sixty_times_as_fast(tmp_path: Path) -> None:
    fast = tmp_path / "fast.yaml"
    fast.write_text(scaled_rules(RULES.read_text(encoding="utf-8"), 60))

    checked = run("promtool", "check", "rules", "--lint-fatal", RULES, fast)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_amtool_accepts_the_example_for_alertmanager() -> None:
    checked = run("amtool", "check-config", RULES.with_name("alertmanager.yaml"))

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
    routed = run("amtool", "config", "routes", "test", "--config.file", RULES.with_name("alertmanager.yaml"), *labels)

    assert routed.stdout.strip() == receiver


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_alert_fires_when_it_should_and_only_then(file: Path) -> None:
    tested = run("promtool", "test", "rules", file)

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("name", sorted({rule["alert"] for rule in ALERTS}))
def test_cases_hold_with_no_rules_but_their_own(name: str, tmp_path: Path) -> None:
    """Else the soak test of changed alerts would take a rule that is missing for a change that was found."""
    assert holds(name, ALERTS, tmp_path)
