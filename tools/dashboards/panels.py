"""The kinds of panel that the dashboards are made of, each with what makes it readable at a glance.

Widths are in Grafana's 24 columns. `line` draws the threshold of an alert, and colours what is beyond it; `alerts` are
linked with their runbooks. Units are Grafana's ids (packages/grafana-data/src/valueFormats).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tools.scaled_rules import RUNBOOKS

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "semi-dark-yellow", "orange", "red", "blue", "#7b8087"
HEIGHT = 8
_NOTHING = {"type": "special", "options": {"match": "null", "result": {"text": "-", "color": GREY, "index": 0}}}
"""Without it the sign for no value has the colour of the lowest values."""
Panel = Builder[dashboard.Panel]
Colours = Sequence[tuple[float | None, str]]
"""From which value on which colour holds, in ascending order; None: from the lowest on, which is green without it."""
WIDE = 12
"""From this width on there is room for a legend with values beside a graph. Below a graph it would take half of it."""
LEAST_TOPS = {"short": 1.0, "none": 1.0, "reqps": 0.1}
"""How high an axis reaches at least, by unit. Grafana draws nothing but zeros on an axis that ends at 100."""


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression, and how its series are called: text with `{{label}}`."""

    expr: str
    legend: str = ""
    is_dashed: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: one query by the table's key, with its own unit and colours."""

    title: str
    expr: str
    unit: str
    colours: Colours = ()
    decimals: int | None = None


def above_zero(expr: str, most: int | None = None) -> str:
    """Those series of an expression that are above 0 at some point of the time shown; the `most` highest of them.

    Whole series: `> 0` would take single points, and a legend would have the last point above 0 as the value of now.
    """
    highest = f"max_over_time(({expr})[$__range:$__interval] @ end()) > 0"
    return f"{expr} and {highest if most is None else f'topk({most}, {highest})'}"


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    is_stacked: bool = False,
    line: float | None = None,
    top: float | None = None,
    paint: Mapping[str, str] | None = None,
    alerts: Sequence[str] = (),
) -> Panel:
    """Values over time, from 0 up to the line at least. `paint`: series that have a colour of their own, by name.

    Wide ones have a table of last and highest values beside them, the highest first.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(HEIGHT)
        .span(width)
        .line_width(1)
        .fill_opacity(25 if is_stacked else 0)
        .show_points(common.VisibilityMode.AUTO)
        .no_value("none in this time")
        .links(_runbooks(alerts))
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
        .legend(_legend(is_wide=width >= WIDE))
    )
    least = LEAST_TOPS.get(unit) if line is None else line
    if top is not None:
        panel = panel.max(top)
    elif least is not None:
        panel = panel.axis_soft_max(least)
    if is_stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if line is not None:
        panel = panel.thresholds(_thresholds(((line, RED),))).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    for number, query in enumerate(queries):
        name = chr(ord("A") + number)
        panel = panel.with_target(_target(query, name).range())
        if query.is_dashed:
            dashes = {"fill": "dash", "dash": [4, 6]}
            panel = panel.override_by_query(name, [dashboard.DynamicConfigValue("custom.lineStyle", dashes)])
    for name, colour in (paint or {}).items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel = panel.override_by_name(name, [dashboard.DynamicConfigValue("color", fixed)])
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    colours: Colours = (),
    width: int = 4,
    words: Mapping[str, tuple[str, str]] | None = None,
    shows_name: bool = False,
    beside: tuple[Query, Colours] | None = None,
    alerts: Sequence[str] = (),
) -> Panel:
    """One value as of now, coloured by what it means. `words`: value to text and colour. `shows_name`: the legend.

    `beside`: a second value that tells more of the first. Both have their names then.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(width)
        .no_value("-")
        .links(_runbooks(alerts))
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE if colours or words else common.BigValueColorMode.NONE)
        .text_mode(common.BigValueTextMode.NAME if shows_name else common.BigValueTextMode.AUTO)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(colours))
    )
    if words is not None:
        panel = panel.mappings(_mappings(words))
    panel = panel.with_target(_target(query, "A").instant())
    if beside is not None:
        other, limits = beside
        steps = dashboard.DynamicConfigValue("thresholds", _thresholds(limits).build())
        panel = panel.text_mode(common.BigValueTextMode.VALUE_AND_NAME).override_by_query("B", [steps])
        panel = panel.with_target(_target(other, "B").instant())
    return panel


def columns(
    title: str,
    description: str,
    keys: Sequence[tuple[str, str]],
    shown: Sequence[Column],
    *,
    width: int = 24,
    height: int = HEIGHT,
    order_by: tuple[str, bool] | None = None,
    paint: Mapping[str, Mapping[str, str]] | None = None,
    pages: str | None = None,
    alerts: Sequence[str] = (),
) -> Panel:
    """A table with a row for each value of the keys (label and heading), and a column for each query.

    `order_by`: a heading, and whether the highest comes first. `paint`: heading to text to colour. `pages`: the heading
    whose texts lead to the runbooks of these names.
    """
    panel = _table(title, description, width, height, alerts)
    if order_by is not None:
        heading, is_descending = order_by
        panel = panel.sort_by([common_builders.TableSortByFieldState().display_name(heading).desc(is_descending)])
    for heading, colours in (paint or {}).items():
        words = _mappings({text: (text, colour) for text, colour in colours.items()})
        panel = panel.override_by_name(
            heading,
            [
                dashboard.DynamicConfigValue("mappings", words),
                dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ],
        )
    if pages is not None:
        link = {"title": "Runbook", "url": f"{RUNBOOKS}/${{__value.raw}}.md", "targetBlank": True}
        panel = panel.override_by_name(pages, [dashboard.DynamicConfigValue("links", [link])])
    names = {f"Value #{chr(ord('A') + at)}" if len(shown) > 1 else "Value": each.title for at, each in enumerate(shown)}
    for at, each in enumerate(shown):
        panel = panel.with_target(_target(Query(each.expr), chr(ord("A") + at)).instant().format(PromQueryFormat.TABLE))
        values = [dashboard.DynamicConfigValue("unit", each.unit)]
        if each.decimals is not None:
            values.append(dashboard.DynamicConfigValue("decimals", each.decimals))
        if each.colours:
            steps = _thresholds(each.colours).build()
            values += [
                dashboard.DynamicConfigValue("thresholds", steps),
                dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
                dashboard.DynamicConfigValue("mappings", [_NOTHING]),
            ]
        panel = panel.override_by_name(each.title, values)
    order = [label for label, _ in keys] + list(names)
    organise: dict[str, object] = {
        "excludeByName": {"Time": True},
        "indexByName": {name: at for at, name in enumerate(order)},
        "renameByName": {**dict(keys), **names},
    }
    if len(shown) > 1:
        panel = panel.with_transformation(dashboard.DataTransformerConfig("merge", options={}))
    return panel.with_transformation(dashboard.DataTransformerConfig("organize", options=organise))


def matrix(
    title: str,
    description: str,
    query: Query,
    *,
    row: str,
    column: str,
    words: Mapping[str, tuple[str, str]],
    width: int = 12,
    alerts: Sequence[str] = (),
) -> Panel:
    """A table of one label by another, its cells filled with the colour of their value."""
    grouped = {"columnField": column, "rowField": row, "valueField": "Value", "emptyValue": "null"}
    named = {"renameByName": {f"{row}\\{column}": row.capitalize()}}
    cells = {"type": "color-background", "mode": "basic"}
    return (
        _table(title, description, width, HEIGHT, alerts)
        .with_target(_target(query, "A").instant().format(PromQueryFormat.TABLE))
        .mappings(_mappings(words))
        .min_width(80)
        .override_by_field_type("number", [dashboard.DynamicConfigValue("custom.cellOptions", cells)])
        .with_transformation(dashboard.DataTransformerConfig("groupingToMatrix", options=grouped))
        .with_transformation(dashboard.DataTransformerConfig("organize", options=named))
    )


def timeline(
    title: str,
    description: str,
    query: Query,
    words: Mapping[str, tuple[str, str]],
    *,
    width: int = 12,
    height: int = HEIGHT,
    alerts: Sequence[str] = (),
) -> Panel:
    """States over time, a band for each series. `words`: value to text and colour."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("none")
        .height(height)
        .span(width)
        .show_value(common.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.8)
        .fill_opacity(70)
        .links(_runbooks(alerts))
        .mappings(_mappings(words))
        .legend(common_builders.VizLegendOptions().show_legend(False))
        .with_target(_target(query, "A").range())
    )


def _legend(*, is_wide: bool) -> common_builders.VizLegendOptions:
    legend = common_builders.VizLegendOptions().show_legend(True)
    if not is_wide:
        return legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM).calcs([])
    return (
        legend.display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.RIGHT)
        .calcs(["lastNotNull", "max"])
        .sort_by("Max")
        .sort_desc(True)
    )


def _table(title: str, description: str, width: int, height: int, alerts: Sequence[str]) -> table.Panel:
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("none")
        .height(height)
        .span(width)
        .no_value("-")
        .links(_runbooks(alerts))
    )


def _target(query: Query, name: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(name).datasource(SOURCE)


def _thresholds(colours: Colours) -> builders.ThresholdsConfig:
    lowest = () if colours and colours[0][0] is None else ((None, GREEN),)
    steps = [dashboard.Threshold(value=value, color=colour) for value, colour in (*lowest, *colours)]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _mappings(words: Mapping[str, tuple[str, str]]) -> list[dashboard.ValueMapping]:
    results = {
        value: dashboard.ValueMappingResult(text=text, color=colour, index=at)
        for at, (value, (text, colour)) in enumerate(words.items())
    }
    return [dashboard.ValueMap(options=results)]


def _runbooks(alerts: Sequence[str]) -> list[Builder[dashboard.DashboardLink]]:
    return [
        builders.DashboardLink(f"Runbook {alert}")
        .type(dashboard.DashboardLinkType.LINK)
        .url(f"{RUNBOOKS}/{alert}.md")
        .target_blank(True)
        for alert in alerts
    ]
