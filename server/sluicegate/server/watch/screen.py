"""The view as it stands in a terminal: two tables under a header, cut to its size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sluicegate.server.watch.figures import ModelFigures, PartnerFigures, View
from sluicegate.server.watch.headline import GOOD, QUIET, WARNING, WRONG, headline
from sluicegate.server.watch.texts import compact, milliseconds, name, percent

WIDE = 136
"""From so many columns on, each signal has a column; on a narrower terminal those that say something are named."""
MAX_ROWS = 200
"""Of each table, where there is no height to keep to."""
_QUOTA_NEAR, _QUOTA_FULL = 0.8, 0.95
_MANY_DUPLICATES, _ENOUGH_SEEN = 0.5, 100
"""As the alert MassDuplicates: more than half of more than so many. A ratio of fewer texts says little."""
_MANY_NETWORKS = 5
_SLOTS_FULL = 0.95

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class _Column(Generic[Row]):
    """`cell` gives the text and its style; `group` stands over the titles."""

    group: str
    title: str
    cell: Callable[[Row], tuple[str, str]]
    is_number: bool = True


def render(view: View, *, width: int, height: int | None, hint: str = "") -> RenderableType:
    """The view for so many columns and lines; `height` None: as many as it needs. `hint` is its last line."""
    top = headline(view, width)
    bottom = [Text(hint, style=QUIET)] if hint else []
    if not view.answering:
        return Group(*top, Text(), Text("No server answers.", style=WRONG), *bottom)
    is_wide = width >= WIDE
    partners, models = _shares(view, None if height is None else height - len(top) - len(bottom))
    return Group(
        *top,
        _table(_partner_columns(is_wide=is_wide), view.partners, partners, "partner"),
        _table(_model_columns(is_wide=is_wide), view.models, models, "model"),
        *bottom,
    )


def _shares(view: View, lines: int | None) -> tuple[int, int]:
    """How many rows each table may have. Each needs three lines more: its titles, and what it leaves out."""
    if lines is None:
        return MAX_ROWS, MAX_ROWS
    free = max(2, lines - 6)
    models = min(len(view.models), max(1, free // 2))
    partners = min(len(view.partners), max(1, free - models))
    return partners, max(1, free - partners)


def _table(columns: Sequence[_Column[Row]], rows: Sequence[Row], limit: int, what: str) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(
            f"{column.group}\n{column.title}", justify="right" if column.is_number else "left", no_wrap=True
        )
    for row in rows[:limit]:
        table.add_row(*(Text(text, style=style) for text, style in (column.cell(row) for column in columns)))
    left = len(rows) - limit
    more = f"and {left} {what}{'s' if left > 1 else ''} more" if left > 0 else ""
    return Group(table, Text(more, style=QUIET))


def _partner_columns(*, is_wide: bool) -> list[_Column[PartnerFigures]]:
    width = 24 if is_wide else 16
    plain: list[_Column[PartnerFigures]] = [
        _Column("", "partner", lambda row: (name(row.partner, width), ""), is_number=False),
        _Column("tokens", "in/s", lambda row: _number(row.input_tokens_per_second)),
        _Column("", "out/s", lambda row: _number(row.output_tokens_per_second)),
        _Column("", "req/s", lambda row: _number(row.requests_per_second)),
        _Column("", "str", lambda row: _number(row.streams)),
    ]
    quota: _Column[PartnerFigures] = _Column("quota", "used", _quota)
    if not is_wide:
        return [
            *plain,
            _Column("denied", "/min", lambda row: (_denials(row.denials_per_minute), WARNING), is_number=False),
            quota,
            _Column("", "signals", lambda row: (_signals(row), WARNING), is_number=False),
        ]
    return [
        *plain,
        _Column("denied", "authn", _denied("authn")),
        _Column("/min", "scope", _denied("scope")),
        _Column("", "stage", _denied("stage")),
        _Column("", "agr", _denied("agreement")),
        _Column("", "quota", _denied("quota")),
        _Column("", "wdr", _denied("withdrawn")),
        quota,
        _Column("dup", "in", lambda row: _duplicates(row.prompt_duplicate_ratio, row.prompts_seen)),
        _Column("", "out", lambda row: _duplicates(row.output_duplicate_ratio, row.outputs_seen)),
        _Column("", "camp", lambda row: _event(row.template_campaigns)),
        _Column("", "distinct", lambda row: _number(row.prompts_distinct)),
        _Column("", "nets", lambda row: (compact(row.networks_per_token), _many(row.networks_per_token))),
        _Column("", "pii", lambda row: _event(row.pii_found)),
        _Column("", "lex", lambda row: _event(row.flagged_lexicon)),
        _Column("", "off-h", lambda row: _event(row.offhours_requests)),
    ]


def _model_columns(*, is_wide: bool) -> list[_Column[ModelFigures]]:
    width = 24 if is_wide else 16
    return [
        _Column("", "model", lambda row: (name(row.model, width), ""), is_number=False),
        _Column("", "ready", lambda row: (str(row.ready), GOOD if row.ready else WRONG if row.open_to else QUIET)),
        _Column("open", "to", lambda row: (row.open_to or "nobody", "" if row.open_to else QUIET), is_number=False),
        _Column("", "queue", lambda row: _event(row.queue)),
        _Column("", "running", lambda row: _number(row.running)),
        _Column(
            "slots", "used", lambda row: (percent(row.slots_used_ratio), _above(row.slots_used_ratio, _SLOTS_FULL))
        ),
        _Column("tokens", "out/s", lambda row: _number(row.output_tokens_per_second)),
        _Column("ttft ms", "p50", lambda row: (milliseconds(row.first_token_p50), "")),
        _Column("", "p95", lambda row: (milliseconds(row.first_token_p95), "")),
        _Column("by", "heart", lambda row: _event(row.memorisation_suspects)),
    ]


def _number(value: float | None) -> tuple[str, str]:
    return compact(value), "" if value else QUIET


def _event(value: float | None) -> tuple[str, str]:
    return compact(value), WARNING if value else QUIET


def _duplicates(ratio: float | None, seen: float) -> tuple[str, str]:
    if not ratio or seen <= _ENOUGH_SEEN:
        return percent(ratio), QUIET
    return percent(ratio), WARNING if ratio > _MANY_DUPLICATES else ""


def _many_duplicates(ratio: float | None, seen: float) -> float | None:
    return ratio if _duplicates(ratio, seen)[1] == WARNING else None


def _above(value: float | None, limit: float) -> str:
    return WARNING if value is not None and value >= limit else ""


def _many(networks: float | None) -> str:
    return _above(networks, _MANY_NETWORKS) or ("" if networks else QUIET)


def _quota(row: PartnerFigures) -> tuple[str, str]:
    used = row.quota_used_ratio
    if used is None:
        return percent(None), QUIET
    return percent(used), WRONG if used >= _QUOTA_FULL else WARNING if used >= _QUOTA_NEAR else "" if used else QUIET


def _denied(kind: str) -> Callable[[PartnerFigures], tuple[str, str]]:
    return lambda row: _event(row.denials_per_minute.get(kind))


def _denials(by_class: Mapping[str, float]) -> str:
    """The class that has most, as `stage 12`, with a `+` if others have some."""
    some = sorted(((count, kind) for kind, count in by_class.items() if count > 0), reverse=True)
    return "".join(f"{name(kind, 12)} {compact(count)}{' +' if len(some) > 1 else ''}" for count, kind in some[:1])


def _signals(row: PartnerFigures) -> str:
    """What is worth a look, in few words."""
    shown = (
        ("camp", row.template_campaigns, 1.0, compact),
        ("dup", _many_duplicates(row.prompt_duplicate_ratio, row.prompts_seen), 0.0, percent),
        ("dup out", _many_duplicates(row.output_duplicate_ratio, row.outputs_seen), 0.0, percent),
        ("nets", row.networks_per_token, _MANY_NETWORKS, compact),
        ("pii", row.pii_found, 1.0, compact),
        ("lex", row.flagged_lexicon, 1.0, compact),
        ("off-h", row.offhours_requests, 1.0, compact),
    )
    worth = [f"{title} {text(value)}" for title, value, limit, text in shown if value is not None and value >= limit]
    return " ".join(worth)
