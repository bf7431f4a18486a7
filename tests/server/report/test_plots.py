from __future__ import annotations

import re
from xml.etree import ElementTree

from sluicegate.server.report.figures import SpanRow
from sluicegate.server.report.plots import WIDTH, Bar, bars, columns

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    """As an SVG file has it; inside of HTML the namespace goes without saying."""
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def test_bars_are_as_long_as_their_counts() -> None:
    svg = parsed(bars("m", "Requests", "By model.", [Bar("a", [30, 10], "40"), Bar("b", [10, 0], "10")], ["x", "y"]))

    rows: dict[str, list[float]] = {}
    for each in svg.iter(f"{SVG}rect"):
        if each.get("height") == "18.00":
            rows.setdefault(each.get("y", ""), []).append(float(each.get("width", "0")))
    [[first, second], [third]] = rows.values()
    assert (round(first / second, 2), round(first / third, 2)) == (3, 3)


def test_columns_are_as_wide_as_their_time_and_have_their_count_as_area() -> None:
    rows = [
        SpanRow("2026-10-01T00:00:00.000Z", "2026-10-02T00:00:00.000Z", 30),
        SpanRow("2026-10-02T00:00:00.000Z", "2026-10-04T00:00:00.000Z", 30),
        SpanRow("2026-10-04T00:00:00.000Z", "2026-10-05T00:00:00.000Z", 0),
    ]

    svg = parsed(columns("t", "Requests over time", "A column a day.", rows))

    one, two = svg.iter(f"{SVG}rect")
    assert round((float(two.get("width", 0)) + 1) / (float(one.get("width", 0)) + 1), 2) == 2
    assert round(float(one.get("height", 0)) / float(two.get("height", 0)), 2) == 2
    texts = [each.text for each in svg.iter(f"{SVG}text")]
    assert texts == ["highest: 30 a day", "2026-10-01", "2026-10-05"]


def test_a_plot_has_a_title_and_a_description_for_those_who_do_not_see_it() -> None:
    svg = parsed(bars("m", "Requests", "By model.", [Bar("a", [1], "1")]))

    named = {each.get("id"): each.text for each in svg if each.get("id")}
    assert svg.get("role") == "img"
    assert [named[each] for each in svg.get("aria-labelledby", "").split()] == ["Requests", "By model."]


def test_names_are_texts_and_nothing_else() -> None:
    hostile = "<script>alert(1)</script>\"&'"

    svg = bars("m", hostile, hostile, [Bar(hostile, [1], hostile)], [hostile])

    parsed(svg)
    assert "<script" not in svg
    assert not re.search(r"style=|href|url\(", svg)


def test_no_bar_leaves_the_picture() -> None:
    svg = parsed(bars("m", "t", "d", [Bar("a", [10**15, 1], "x"), Bar("b", [0], "0")]))

    assert all(float(each.get("x", 0)) + float(each.get("width", 0)) <= WIDTH for each in svg.iter(f"{SVG}rect"))
