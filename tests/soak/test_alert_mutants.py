"""Every number and every wait of an alert is held by a case: changed, it breaks one. Needs promtool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alert_cases import ALERTS, holds

from tools.promql import Kind, words

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

WAITS = (0, 20)
"""By what a `for` is multiplied: none at all, and far too long."""


def mutants(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rule with one number doubled or halved (0 becomes 2), or another wait; what was changed, and the rule."""
    cut = list(words(rule["expr"]))
    for at, word in enumerate(cut):
        if word.kind is Kind.NUMBER:
            for changed in (2.0,) if float(word.text) == 0 else (2 * float(word.text), float(word.text) / 2):
                text = "".join(str(changed) if other == at else each.text for other, each in enumerate(cut))
                yield f"number {at}: {word.text} as {changed:g}", {**rule, "expr": text}
    for factor in WAITS if "for" in rule else ():
        minutes = int(rule["for"][:-1]) * factor
        yield f"for: {minutes}{rule['for'][-1]}", {**rule, "for": f"{minutes}{rule['for'][-1]}"}


def changes() -> Iterator[Any]:
    """Each alert with each of its mutants."""
    for number, rule in enumerate(ALERTS):
        for change, mutant in mutants(rule):
            yield pytest.param(number, mutant, id=f"{rule['alert']}-{rule['labels']['severity']}-{change}")


@pytest.mark.parametrize(("number", "mutant"), list(changes()))
def test_another_threshold_or_wait_breaks_a_case(number: int, mutant: dict[str, Any], tmp_path: Path) -> None:
    alerts = [mutant if at == number else rule for at, rule in enumerate(ALERTS)]

    assert not holds(mutant["alert"], alerts, tmp_path)
