"""What an alert's runbook tells to do."""

from __future__ import annotations

import re
from pathlib import Path

from tools.demo_monitoring.configs import RUNBOOKS

_ROOT = Path(__file__).resolve().parents[2]
_ACT = re.compile(r"^## Act\n(.*?)^## ", re.DOTALL | re.MULTILINE)
_POINT = re.compile(r"^- (.*(?:\n  .*)*)", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def first_advice(alert: str) -> str:
    """The first point of a runbook's section Act, on one line and without marks."""
    return read_advice((_ROOT / RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8"))


def read_advice(page: str) -> str:
    """The first point under Act; an empty text if there is none."""
    section = _ACT.search(page)
    point = _POINT.search(section[1]) if section else None
    return " ".join(_LINK.sub(r"\1", point[1]).split()) if point else ""
