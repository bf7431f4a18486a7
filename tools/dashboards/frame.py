"""What all dashboards share: variables, links to each other, the look at the last six hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from tools.dashboards.panels import SOURCE, Panel
from tools.scaled_rules import RUNBOOKS

TAG = "sluicegate"
VARIABLES = {
    "job": ("Deployment", "The scrape job of a deployment.", "label_values(sluicegate_policy_info, job)"),
    "partner": (
        "Partner",
        "Partners with an agreement; public: callers without one; internal: the operator's own; other: not believed.",
        'label_values(sluicegate_requests_total{job=~"$job"}, partner)',
    ),
    "model": ("Model", "Model ids of the policy.", 'label_values(sluicegate_model_ready{job=~"$job"}, model)'),
}
"""Name to label, description and query."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading. One that `is_folded` is opened by a click."""

    title: str
    panels: Sequence[Panel]
    is_folded: bool = False


def framed(
    uid: str, title: str, description: str, variables: Sequence[str], rows: Sequence[Row]
) -> dashboard.Dashboard:
    """A whole dashboard. Panel ids count from 1 in the order of the page."""
    frame = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("utc")
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(
            builders.DashboardLink("Sluicegate")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .link(
            builders.DashboardLink("Runbooks")
            .type(dashboard.DashboardLinkType.LINK)
            .icon("doc")
            .url(f"{RUNBOOKS}/")
            .target_blank(True)
        )
    )
    for name in variables:
        frame = frame.with_variable(_variable(name))
    for row in rows:
        heading = builders.Row(row.title)
        if row.is_folded:
            heading = heading.collapsed(True)
            for panel in row.panels:
                heading = heading.with_panel(panel)
            frame = frame.with_row(heading)
            continue
        frame = frame.with_row(heading)
        for panel in row.panels:
            frame = frame.with_panel(panel)
    built = frame.build()
    _number(built)
    return built


def _variable(name: str) -> builders.QueryVariable:
    label, description, query = VARIABLES[name]
    return (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(dashboard.VariableOption(text="All", value="$__all", selected=True))
    )


def _number(built: dashboard.Dashboard) -> None:
    number = 0
    for entry in built.panels or []:
        inner = entry.panels if isinstance(entry, dashboard.RowPanel) else []
        for panel in (entry, *inner):
            number += 1
            panel.id_val = number
