"""Dashboards and rules show every metric that the server has, and name none that it has not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluicegate.server.observe.metrics import Metrics
from tools.dashboards.__main__ import rendered
from tools.dashboards.limits import limit
from tools.promql import metric_names

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "helm/sluicegate/files"
RUNBOOKS = ROOT / "docs/runbooks"
NAMES = ("service", "release", "partners", "misuse")
OF_PROMETHEUS = {"up", "ALERTS", "ALERTS_FOR_STATE"}
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FILES / "rules.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}

UNUSED = {
    # Parts of a summary that says little: which garbage was collected.
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
    "python_gc_collections_total",
    # The version of Python: to look up, not to watch.
    "python_info",
    # Address space, which says nothing of the memory that is used.
    "process_virtual_memory_bytes",
    # To look up after a restart; ReplicaDown and the gaps in every panel show it.
    "process_start_time_seconds",
}
"""Metrics that no panel and no rule shows, with the reason."""


def dashboard(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(
        (FILES / f"dashboards/{name}.json").read_text(encoding="utf-8"), parse_constant=number_that_json_lacks
    )
    return read


def panels(name: str) -> Iterator[dict[str, Any]]:
    """All panels, those of folded rows among them, without the headings."""
    for entry in dashboard(name)["panels"]:
        yield from (panel for panel in (entry, *entry.get("panels", [])) if panel["type"] != "row")


def number_that_json_lacks(word: str) -> None:
    """Python's reader takes -Infinity; Grafana's does not."""
    raise AssertionError(word)


def labels_of(expression: str) -> set[str]:
    """The labels of the first aggregation; none if it has none, or reads what a rule has aggregated."""
    found = re.search(r"\bby \(([^)]*)\)", expression)
    return set() if found is None else set(found.group(1).split(", "))


def queries(name: str) -> list[str]:
    return [target["expr"] for panel in panels(name) for target in panel["targets"]]


def exported() -> set[str]:
    """Names as Prometheus has them, a histogram's parts as its family."""
    suffixes = {"counter": "_total", "info": "_info"}
    return {family.name + suffixes.get(family.type, "") for family in Metrics().registry.collect()}


def family(name: str) -> str:
    """The histogram that a series is a part of, or the name itself."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


def named() -> set[str]:
    """Every metric that a panel, a variable or a rule reads, but for what rules make."""
    expressions = [re.sub(r"\$__\w+", "5m", query) for name in NAMES for query in queries(name)]
    names = {name for expression in expressions for name in metric_names(expression)}
    names |= {name for rule in RULES for name in metric_names(rule["expr"])}
    for name in NAMES:
        for variable in dashboard(name)["templating"]["list"]:
            if variable["type"] == "query":
                names.add(re.findall(r"label_values\((\w+)", variable["query"]["query"])[0])
    return {family(name) for name in names}


@pytest.mark.parametrize("name", NAMES)
def test_committed_dashboard_is_what_the_code_makes(name: str) -> None:
    assert (FILES / f"dashboards/{name}.json").read_text(encoding="utf-8") == rendered()[f"{name}.json"]


@pytest.mark.parametrize("name", NAMES)
def test_graphs_show_whole_series_or_none(name: str) -> None:
    """With `> 0` in a query over time, a legend gives the last value above 0 as that of now."""
    bare = [
        target["expr"]
        for panel in panels(name)
        if panel["type"] == "timeseries"
        for target in panel["targets"]
        if re.search(r"> 0\b", target["expr"]) and "@ end()) > 0" not in target["expr"]
    ]

    assert bare == []


def test_lines_of_an_alert_are_in_panels_with_series_as_the_alert_has_them() -> None:
    """A line means nothing beside series of other labels: each of three may be below it, and their sum above."""
    by = {rule["alert"]: labels_of(rule["expr"]) for rule in RULES if "alert" in rule}
    wrong = []
    for panel in (panel for name in NAMES for panel in panels(name) if panel["type"] == "timeseries"):
        custom = panel["fieldConfig"]["defaults"]["custom"]
        is_stacked = custom.get("stacking", {}).get("mode") == "normal"
        if "thresholdsStyle" in custom and not is_stacked:
            alerts = [link["url"].rpartition("/")[2].removesuffix(".md") for link in panel.get("links", [])]
            shown = labels_of(panel["targets"][0]["expr"]) - {"instance"}
            wrong += [(panel["title"], alert) for alert in alerts if by[alert] and not shown <= by[alert]]

    assert wrong == []


def test_every_metric_that_is_named_exists() -> None:
    assert named() - exported() - RECORDED - OF_PROMETHEUS == set()


def test_every_metric_that_is_exported_is_shown_or_left_out_on_purpose() -> None:
    assert exported() - named() == UNUSED


def test_everything_that_rules_record_is_read() -> None:
    assert RECORDED - named() == set()


@pytest.mark.parametrize("name", NAMES)
def test_metrics_in_runbooks_exist(name: str) -> None:
    """All runbooks of alerts that link this dashboard."""
    linked = [
        rule for rule in RULES if f"/d/sluicegate-{name}?" in rule.get("annotations", {}).get("dashboard_url", "")
    ]
    for rule in linked:
        page = (RUNBOOKS / f"{rule['alert']}.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"^```promql\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        names = {family(each) for line in block.splitlines() for each in metric_names(line)}
        assert names <= exported() | RECORDED | OF_PROMETHEUS


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    for panel in panels(name):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_of_a_dashboard_have_titles_and_ids_of_their_own(name: str) -> None:
    kinds = [(panel["type"], panel["title"]) for panel in panels(name)]
    ids = [panel["id"] for entry in dashboard(name)["panels"] for panel in (entry, *entry.get("panels", []))]

    assert len(set(kinds)) == len(kinds)
    assert ids == list(range(1, len(ids) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_panels_fill_their_rows_and_cover_each_other_nowhere(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for entry in dashboard(name)["panels"]:
        place = entry["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, entry["title"]
        taken |= cells
    bottom = max(y for _, y in taken) + 1
    assert len(taken) == 24 * bottom


@pytest.mark.parametrize("name", NAMES)
def test_dashboard_has_a_fixed_address_and_uses_each_of_its_variables(name: str) -> None:
    whole = dashboard(name)
    text = " ".join(queries(name))
    variables = {each["name"] for each in whole["templating"]["list"]}

    assert whole["uid"] == f"sluicegate-{name}"
    assert variables - {"datasource"} == set(re.findall(r"\$(job|partner|model)\b", text))
    assert "datasource" in variables


def test_every_query_is_of_the_chosen_deployments() -> None:
    for name in NAMES:
        for query in queries(name):
            selectors = re.findall(r"\{[^}]*\}", query)
            assert selectors, query
            assert all('job=~"$job' in selector for selector in selectors), query


@pytest.mark.parametrize("name", NAMES)
def test_rates_without_an_alerts_window_follow_the_scrape_interval(name: str) -> None:
    windows = {window for query in queries(name) for window in re.findall(r"\[(\$?\w+)\]", query)}

    assert "$__rate_interval" in windows
    assert windows <= {"$__rate_interval", "5m", "10m", "15m", "30m", "1h", "24h"}


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_dashboard_lead_to_the_others_and_to_runbooks_that_exist(name: str) -> None:
    links = {link["title"]: link for link in dashboard(name)["links"]}
    pages = [link["url"] for panel in panels(name) for link in panel.get("links", [])]

    assert links["Sluicegate"]["tags"] == dashboard(name)["tags"] == ["sluicegate"]
    assert links["Runbooks"]["url"] == "https://runbooks.example/"
    for url in pages:
        assert (RUNBOOKS / url.removeprefix("https://runbooks.example/")).is_file(), url


def test_every_alert_has_a_panel_that_leads_to_its_runbook() -> None:
    linked = {
        link["url"].rpartition("/")[2] for name in NAMES for panel in panels(name) for link in panel.get("links", [])
    }

    assert {f"{rule['alert']}.md" for rule in RULES if "alert" in rule} == linked


@pytest.mark.parametrize(
    ("alert", "severity", "expected"),
    [("ScopeProbing", None, 30), ("ErrorBudgetBurnFast", None, 0.072), ("KeysStale", "page", 72_000)],
)
def test_lines_in_panels_are_at_the_thresholds_of_the_alerts(alert: str, severity: str | None, expected: float) -> None:
    assert limit(alert, severity) == pytest.approx(expected)


def test_an_alert_that_is_gone_has_no_line() -> None:
    with pytest.raises(KeyError):
        limit("NoSuchAlert")
