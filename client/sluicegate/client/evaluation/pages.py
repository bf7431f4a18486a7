"""Evidence as HTML pages: one file each that needs no other, and that nothing else is let into."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sluicegate.evidence.bias import BiasEvidence
from sluicegate.evidence.memorisation import MemorisationEvidence

TEMPLATES = Path(__file__).parent / "templates"


def bias_page(evidence: BiasEvidence, digest: str) -> str:
    """`digest`: of the evidence file, which the page only shows."""
    rows = [("all", evidence.figures), *((each.category, each.figures) for each in evidence.categories)]
    return _page("bias.html.jinja", digest, evidence=evidence, rows=rows)


def memorisation_page(evidence: MemorisationEvidence, digest: str) -> str:
    """The same for the memorisation check; it has no text of the corpus."""
    return _page("memorisation.html.jinja", digest, evidence=evidence)


def _page(template: str, digest: str, **facts: object) -> str:
    style = (TEMPLATES / "evaluation.css").read_text(encoding="utf-8")
    named = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": _percent, "time": _time}
    return environment.get_template(template).render(
        **facts,
        digest=digest,
        style=Markup(style),  # noqa: S704
        style_digest=named,
    )


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.1f}\N{NO-BREAK SPACE}%"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
