"""Each alert is whole: a severity, words for people, a runbook whose commands exist, and cases in which it is quiet."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sluicegate.client.commands.app import build_app
from sluicegate.client.extensions import EXTENSIONS, load

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "helm/sluicegate/files/rules.yaml"
RUNBOOKS = ROOT / "docs/runbooks"
CASES = ROOT / "tests/rules"
DASHBOARDS = ROOT / "helm/sluicegate/files/dashboards"
SECTIONS = ("## First look", "## Act", "## A false alarm?", "## When it ends")
GROUPS = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
ALERTS: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]
NAMES = sorted({alert["alert"] for alert in ALERTS})
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
USED = re.compile(r"\$labels\.(\w+)")


def of_alert(alert: dict[str, Any]) -> str:
    return f"{alert['alert']}-{alert['labels']['severity']}"


def runbook(name: str) -> str:
    return (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")


def cases(name: str) -> list[dict[str, Any]]:
    """The checks of an alert's file: each an evaluation time and the alerts that fire then."""
    tests = yaml.safe_load((CASES / f"{name}.yaml").read_text(encoding="utf-8"))["tests"]
    return [check for test in tests for check in test["promql_expr_test"]]


def expected(check: dict[str, Any]) -> list[dict[str, str]]:
    """The labels of the alerts that a check expects to fire, and nothing beside them."""
    return [dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"])) for sample in check["exp_samples"]]


@pytest.mark.parametrize("alert", ALERTS, ids=of_alert)
def test_alert_says_whom_it_wants_and_what_is_wrong(alert: dict[str, Any]) -> None:
    annotations = alert["annotations"]

    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["labels"]["area"] in ("misuse", "control", "service")
    assert set(annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert len(annotations["summary"]) <= 120
    assert annotations["description"].endswith(".")
    assert annotations["runbook_url"] == f"https://runbooks.example/{alert['alert']}.md"


@pytest.mark.parametrize("alert", ALERTS, ids=of_alert)
def test_alert_links_a_dashboard_that_exists_with_variables_that_it_has(alert: dict[str, Any]) -> None:
    url = alert["annotations"]["dashboard_url"]

    found = re.match(r"https://grafana\.example/d/sluicegate-(\w+)\?(.*)", url)

    assert found is not None
    dashboard = (DASHBOARDS / f"{found[1]}.json").read_text(encoding="utf-8")
    for name in re.findall(r"var-(\w+)=", found[2]):
        assert f"${name}" in dashboard


@pytest.mark.parametrize("alert", ALERTS, ids=of_alert)
def test_alert_has_a_case_in_which_it_fires_with_the_labels_that_its_words_use(alert: dict[str, Any]) -> None:
    used = set(USED.findall(" ".join(alert["annotations"].values()))) - {"job"}
    name = alert["alert"]

    firing = [found for check in cases(name) for found in expected(check) if found["alertname"] == name]
    own = [found for found in firing if found["severity"] == alert["labels"]["severity"]]

    assert own
    assert all(used <= set(found) for found in own)


@pytest.mark.parametrize("alert", ALERTS, ids=of_alert)
def test_alert_has_a_case_in_which_it_is_quiet(alert: dict[str, Any]) -> None:
    kind = (alert["alert"], alert["labels"]["severity"])

    quiet = [
        check
        for check in cases(alert["alert"])
        if kind not in [(found["alertname"], found["severity"]) for found in expected(check)]
    ]

    assert quiet


@pytest.mark.parametrize("name", NAMES)
def test_every_case_looks_at_all_alerts_so_that_none_fires_unseen(name: str) -> None:
    assert {check["expr"] for check in cases(name)} == {'ALERTS{alertstate="firing"}'}


def test_there_are_no_cases_and_runbooks_of_alerts_that_are_gone() -> None:
    assert sorted(path.stem for path in CASES.glob("*.yaml")) == NAMES
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == NAMES


def test_every_alert_is_in_the_table_of_monitoring_md_with_its_severity() -> None:
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")

    rows = re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", page, re.MULTILINE)

    assert sorted(rows) == sorted((alert["alert"], alert["labels"]["severity"]) for alert in ALERTS)


@pytest.mark.parametrize("alert", ALERTS, ids=of_alert)
def test_no_alert_is_taken_apart_by_what_replicas_are_called(alert: dict[str, Any]) -> None:
    """One trouble is one alert, however many replicas see it."""
    if alert["alert"] == "ReplicaDown":
        return
    fired = [found for check in cases(alert["alert"]) for found in expected(check)]

    assert all({"instance", "pod"}.isdisjoint(found) for found in fired)


@pytest.mark.parametrize("alert", ALERTS, ids=of_alert)
def test_every_comment_before_an_alert_gives_the_reason_of_its_wait(alert: dict[str, Any]) -> None:
    text = RULES.read_text(encoding="utf-8")
    place = text.index(f"      - alert: {alert['alert']}\n")
    comment = text[:place].rstrip("\n").rpartition("\n\n")[2]

    wait = alert.get("for")

    reason = "No `for`" if wait is None else f"For {wait[:-1]} {'min' if wait.endswith('m') else wait[-1:]}"
    assert reason in " ".join(line.strip(" #") for line in comment.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_runbook_has_all_its_parts(name: str) -> None:
    page = runbook(name)

    assert page.startswith(f"# {name}\n")
    assert "**How it looks.**" in page
    assert [page.index(section) for section in SECTIONS] == sorted(page.index(section) for section in SECTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_panels_that_a_runbook_names_exist(name: str) -> None:
    titles = {
        title
        for file in DASHBOARDS.glob("*.json")
        for title in re.findall(r'^ +"title": "(.*)",?$', file.read_text(encoding="utf-8"), re.MULTILINE)
    }

    named = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", FENCE.sub("", runbook(name)))

    assert set(named) <= titles


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_a_runbook_exist_with_the_options_that_it_gives(name: str) -> None:
    page = runbook(name)
    typed = re.findall(r"^ *\$ (sluicegate .*)$", page, re.MULTILINE)
    mentioned = [text for text in re.findall(r"`(sluicegate [^`\n]+)`", page) if not text.startswith("sluicegate_")]

    for command in (*typed, *mentioned):
        must_exist(shlex.split(command)[1:])


def must_exist(command: list[str]) -> None:
    """Fail unless the command line has this command, with each option that is given."""
    extension = command[0] in EXTENSIONS
    rest = command[1:] if extension else list(command)
    found: Any = typer.main.get_command(load(command[0]) if extension else build_app())  # typer brings its own click
    while hasattr(found, "commands"):
        if not rest:
            return  # a whole group is meant
        assert rest[0] in found.list_commands(None), f"no command {command}"
        found = found.get_command(None, rest.pop(0))
    options = {text for parameter in found.params for text in parameter.opts}
    assert {text for text in rest if text.startswith("--")} <= options
