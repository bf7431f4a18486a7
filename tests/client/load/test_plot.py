"""A plot is one SVG that says what it shows."""

from __future__ import annotations

from xml.etree import ElementTree

from sluicegate.client.load.plot import Series, svg

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_a_plot_has_a_mark_for_each_point_and_a_line_for_each_series() -> None:
    series = [
        Series("batch 1", [(1, 1.0), (2, 2.0)], [(1, 1.5), (2, 2.5)]),
        Series("batch <8>", [(1, 9.0)], [(1, 20.0)]),
    ]

    root = ElementTree.fromstring(svg("Steps & more", "x", "y", series, x_ticks={1: "one", 2: "two"}, note="<note>"))

    assert len(root.findall(f"{NAMESPACE}circle")) == 3
    assert len(root.findall(f"{NAMESPACE}polyline")) == 2
    texts = [each.text for each in root.findall(f"{NAMESPACE}text")]
    assert {"Steps & more", "x", "y", "batch 1", "batch <8>", "one", "two", "<note>"} <= set(texts)


def test_higher_values_stand_higher_and_a_decade_takes_the_same_everywhere() -> None:
    marks = [(1.0, 1.0), (2.0, 10.0), (3.0, 100.0)]

    root = ElementTree.fromstring(svg("", "", "", [Series("", marks, marks)], x_ticks={}))

    heights = [float(each.attrib["cy"]) for each in root.findall(f"{NAMESPACE}circle")]
    assert heights[0] > heights[1] > heights[2]
    assert abs((heights[0] - heights[1]) - (heights[1] - heights[2])) < 0.2


def test_equal_values_can_be_plotted() -> None:
    assert "circle" in svg("", "", "", [Series("", [(1, 10.0)], [(1, 10.0)])], x_ticks={})
