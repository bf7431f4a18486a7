"""A plot of lines and marks as one SVG file: no script, no font, nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 130, 40, 50
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by most colour-blind readers (Okabe and Ito 2008)."""

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Series:
    """One colour: a line, and marks. Either may be empty."""

    label: str
    line: Curve
    marks: Curve = ()


def svg(
    title: str, x_label: str, y_label: str, series: Sequence[Series], *, x_ticks: Mapping[float, str], note: str = ""
) -> str:
    """The y axis is logarithmic: every y must be above 0. `x_ticks`: what stands below the x axis, and where.

    `note` goes below the labels of the series. There is at least one point.
    """
    points = [point for each in series for point in (*each.line, *each.marks)]
    low = math.floor(math.log10(min(y for _, y in points)))
    high = max(math.ceil(math.log10(max(y for _, y in points))), low + 1)
    right = max([*x_ticks, *(x for x, _ in points)])

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * x / right

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(y) - low) / (high - low)

    parts = [
        _text(WIDTH / 2, 22, title, "middle"),
        _text(LEFT, HEIGHT - 10, x_label, "start"),
        _text(4, 34, y_label, "start"),
    ]
    for power in range(low, high + 1):
        y = up(10.0**power)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{10.0**power:g}", "end"))
    for x, label in x_ticks.items():
        parts.append(_text(across(x), HEIGHT - BOTTOM + 18, label, "middle"))
    for index, each in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in each.line)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="4" fill="{colour}"/>' for x, y in each.marks]
        parts.append(_text(WIDTH - RIGHT + 8, TOP + 14 + 20 * index, each.label, "start", colour))
    parts.append(_text(WIDTH - RIGHT + 8, TOP + 14 + 20 * len(series), note, "start"))
    box, font = f'viewBox="0 0 {WIDTH} {HEIGHT}"', 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} {font}>'
    return f'{head}<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
