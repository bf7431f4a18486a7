"""Plots as SVG inside a page: no script, no style of their own, nothing from elsewhere. The tables have it all.

Colours come from the page's style sheet by class, so they follow light, dark and print. Texts are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sluicegate.server.report.figures import SpanRow
from sluicegate.server.report.period import DAY_SECONDS, seconds_of

WIDTH = 720
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
_BAR, _GAP, _LABEL, _VALUE = 18, 8, 180, 90
_PLOT_HEIGHT, _AXIS = 160, 22
_MAX_LABEL_CHARS = 26


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, of parts that stand one after the other; `note` is written at its end."""

    label: str
    parts: Sequence[int]
    note: str


def bars(name: str, title: str, description: str, rows: Sequence[Bar], legend: Sequence[str] = ()) -> str:
    """Bars that lie, one a row. `name` is unique on the page; each part has the class `part-N`, as its legend has."""
    top = _BAR + _GAP if legend else 0
    height = top + len(rows) * (_BAR + _GAP)
    most = max((sum(row.parts) for row in rows), default=0) or 1
    room = WIDTH - _LABEL - _VALUE
    marks = [_legend(legend)] if legend else []
    for index, row in enumerate(rows):
        y = top + index * (_BAR + _GAP)
        marks.append(_text(_LABEL - 8, y + 13, _cut(row.label), "end"))
        x = float(_LABEL)
        for part, count in enumerate(row.parts):
            width = room * count / most
            if count:
                marks.append(_rectangle(x, y, max(width, 1), _BAR, f"part-{part}"))
            x += width
        marks.append(_text(x + 6, y + 13, row.note, "start"))
    return _svg(name, title, description, height, marks)


def columns(name: str, title: str, description: str, rows: Sequence[SpanRow]) -> str:
    """Columns over time, as wide as their time: the area of each is its count."""
    start, end = seconds_of(rows[0].since), seconds_of(rows[-1].until)
    rates = [row.count / (seconds_of(row.until) - seconds_of(row.since)) for row in rows]
    most = max(rates) or 1
    scale = WIDTH / (end - start)
    marks = [f'<line class="axis" x1="0" x2="{WIDTH}" y1="{_PLOT_HEIGHT}" y2="{_PLOT_HEIGHT}"/>']
    for row, rate in zip(rows, rates, strict=True):
        x, width = (seconds_of(row.since) - start) * scale, (seconds_of(row.until) - seconds_of(row.since)) * scale
        height = (_PLOT_HEIGHT - 4) * rate / most
        if row.count:
            marks.append(_rectangle(x, _PLOT_HEIGHT - height, max(width - 1, 1), max(height, 1), "part-0"))
    a_day = round(max(rates) * DAY_SECONDS)
    marks.append(_text(WIDTH / 2, _PLOT_HEIGHT + 16, f"highest: {a_day:,} a day".replace(",", NARROW_SPACE), "middle"))
    marks.append(_text(0, _PLOT_HEIGHT + 16, rows[0].since[:10], "start"))
    marks.append(_text(WIDTH, _PLOT_HEIGHT + 16, rows[-1].until[:10], "end"))
    return _svg(name, title, description, _PLOT_HEIGHT + _AXIS, marks)


def _svg(name: str, title: str, description: str, height: int, marks: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
        f"{''.join(marks)}</svg>"
    )


def _legend(names: Sequence[str]) -> str:
    marks, x = [], float(_LABEL)
    for part, name in enumerate(names):
        marks.append(_rectangle(x, 4, 12, 12, f"part-{part}"))
        marks.append(_text(x + 18, 14, name, "start"))
        x += 36 + 8 * len(name)
    return "".join(marks)


def _rectangle(x: float, y: float, width: float, height: float, class_: str) -> str:
    return f'<rect class="{class_}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(text)}</text>'


def _cut(label: str) -> str:
    return label if len(label) <= _MAX_LABEL_CHARS else f"{label[: _MAX_LABEL_CHARS - 1]}…"
