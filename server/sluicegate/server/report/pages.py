"""The report as an HTML page and as Markdown, from templates; both hold nothing but the figures."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sluicegate.server.report import plots
from sluicegate.server.report.evaluations import IntervalRow
from sluicegate.server.report.figures import Figures
from sluicegate.server.report.making import OTHER_CLASS
from sluicegate.server.report.period import duration_text
from sluicegate.server.report.plots import NARROW_SPACE
from sluicegate.server.report.suppression import SMALLEST, Figure

TEMPLATES = Path(__file__).parent / "templates"
SHOWN_DIGITS = 12
"""Of revisions and digests."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


def html_page(figures: Figures) -> str:
    """One file that needs no other: style and plots are inside, and its policy lets nothing else in."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    template = _environment(is_html=True).get_template("report.html.jinja")
    return template.render(figures=figures, style=Markup(style), style_digest=digest, plots=_plots(figures))  # noqa: S704


def markdown_page(figures: Figures) -> str:
    return _environment(is_html=False).get_template("report.md.jinja").render(figures=figures)


def _environment(*, is_html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=is_html,  # noqa: S701  # Markdown has a way of its own to quote, `q`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "figure": figure_text,
        "number": number_text,
        "seconds": seconds_text,
        "duration": duration_text,
        "plural": lambda number, noun: noun if number == 1 else f"{noun}s",
        "rate": rate_text,
        "interval": interval_text,
        "digest": lambda digest: "" if digest is None else digest[:SHOWN_DIGITS],
        "revision": lambda revision: "none" if revision is None else revision[:SHOWN_DIGITS],
        "date": lambda at: at[:10],
        "time": time_text,
        "q": quoted,
    }
    environment.globals |= {"SMALLEST": SMALLEST, "OTHER_CLASS": OTHER_CLASS}
    return environment


def number_text(number: int) -> str:
    """As 1 234 567, with narrow spaces."""
    return f"{number:,}".replace(",", NARROW_SPACE)


def figure_text(figure: Figure) -> str:
    """The count; `withheld` for nothing but withheld cells, and `+` after a count that lacks some."""
    if not figure.withheld:
        return number_text(figure.value)
    return f"{number_text(figure.value)}{NARROW_SPACE}+" if figure.value else "withheld"


def seconds_text(seconds: float | None) -> str:
    return "" if seconds is None else f"{number_text(int(seconds))}.{round(seconds % 1 * 1000):03}{NARROW_SPACE}s"


def rate_text(rate: float | None) -> str:
    """In per cent, with 4 digits."""
    return "" if rate is None else f"{100 * rate:.4g}{NARROW_SPACE}%"


def interval_text(interval: IntervalRow | None) -> str:
    """Its ends, and how often such intervals cover the rate."""
    if interval is None:
        return ""
    return f"{100 * interval.low:.4g} to {rate_text(interval.high)} ({rate_text(interval.confidence)})"


def time_text(at: str | None) -> str:
    """To the second; UTC."""
    return "" if at is None else f"{at[:10]} {at[11:19]}"


def quoted(text: object) -> str:
    """A text that Markdown takes as it stands, in one cell of a table."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def _plots(figures: Figures) -> dict[str, Markup]:
    """Those that there is something to draw for. Their texts are escaped where they are made."""
    drawn: dict[str, str] = {}
    models = [
        plots.Bar(row.model, [figure.value for _, figure in row.by_audience], figure_text(row.whole.requests))
        for row in figures.by_model
    ]
    if any(sum(bar.parts) for bar in models):
        drawn["models"] = plots.bars(
            "models",
            "Requests by model",
            "A bar for each model, parted by audience. The table below has the numbers.",
            models,
            figures.audiences,
        )
    if figures.requests_over_time and any(row.count for row in figures.requests_over_time):
        drawn["requests"] = plots.columns(
            "requests",
            "Requests over time",
            "A column for each day, or for several days together. The table below has the numbers.",
            figures.requests_over_time,
        )
    classes = [
        plots.Bar(class_, [figure.value], figure_text(figure))
        for class_, figure in figures.by_class
        if class_ != OTHER_CLASS
    ]
    if any(sum(bar.parts) for bar in classes):
        drawn["denials"] = plots.bars(
            "denials", "Denials by class", "A bar for each class. The table below has the numbers.", classes
        )
    if figures.denials_over_time and any(row.count for row in figures.denials_over_time):
        drawn["denials_over_time"] = plots.columns(
            "denials-over-time",
            "Denials over time",
            "A column for each day, or for several days together. The table below has the numbers.",
            figures.denials_over_time,
        )
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704
