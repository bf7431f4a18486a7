"""Figures as short texts."""

from __future__ import annotations

import math
from dataclasses import asdict

from sluicegate.auth.terminal import printable
from sluicegate.server.watch.figures import View

NOTHING = "-"
MAX_NAME_CHARS = 64


def compact(value: float | None) -> str:
    """At most five characters for all that a server may say, as 3.2, 412, 1.2k or 35M."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value) or abs(value) >= 1e15:
        return "huge"
    for limit, divisor, unit in ((1e3, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M"), (1e12, 1e9, "G"), (1e15, 1e12, "T")):
        scaled = value / divisor
        if abs(value) < limit * 0.9995:
            return (
                f"{scaled:.0f}{unit}"
                if abs(scaled) >= 9.95 or round(scaled, 1) == round(scaled)
                else f"{scaled:.1f}{unit}"
            )
    return f"{value:.0e}"


def percent(ratio: float | None) -> str:
    return NOTHING if ratio is None or not math.isfinite(ratio) else f"{compact(100 * ratio)}%"


def milliseconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{compact(1000 * seconds)}"


def age(seconds: float | None) -> str:
    """As 0.4 s, 12 s, 5 min, 3 h, 2 d; `never` for what has not happened yet."""
    if seconds is None or math.isnan(seconds):
        return NOTHING
    if math.isinf(seconds):
        return "never"
    for limit, divisor, unit in ((90.0, 1.0, "s"), (5_400.0, 60.0, "min"), (129_600.0, 3600.0, "h")):
        if seconds < limit:
            return f"{compact(seconds / divisor)} {unit}"
    return f"{compact(seconds / 86_400)} d"


def name(text: str, width: int = MAX_NAME_CHARS) -> str:
    """A name that a server gave, without what a terminal would obey."""
    shown = printable(text)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def members(view: View) -> dict[str, object]:
    """The view for JSON, which has neither NaN nor infinity: what is neither known nor finite is null."""
    return {**_finite(asdict(view)), "skew": len(view.policies) > 1}


def _finite(value: object) -> dict[str, object]:
    found = _json(value)
    assert isinstance(found, dict)
    return found


def _json(value: object) -> object:
    match value:
        case dict():
            return {key: _json(member) for key, member in value.items()}
        case list() | tuple():
            return [_json(member) for member in value]
        case float() if not math.isfinite(value):
            return None
        case float():
            return round(value, 6)
        case _:
            return value
