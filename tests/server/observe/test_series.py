"""How many series there are, that nobody adds to them, and that docs/metrics.md says so."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from sluicegate.server.observe.control import BIAS_SUITES
from sluicegate.server.observe.exposition import WithoutCreated
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.rpc.listener import served_methods

DOC = (Path(__file__).resolve().parents[3] / "docs/metrics.md").read_text(encoding="utf-8")
MOST = 4_000
"""For the 5 models and 10 partners of a large deployment. A Prometheus of common size takes millions."""


def deployment(models: int, partners: int, categories: int) -> Metrics:
    """The metrics of a server with a policy of so many models and partners."""
    metrics = Metrics(flagged_categories=[f"category-{number}" for number in range(categories)])
    model_ids, names = ([f"{kind}-{at}" for at in range(of)] for kind, of in (("model", models), ("partner", partners)))
    metrics.allow(model_ids, names)
    metrics.rpcs.expect(served_methods())
    metrics.control.policy_info.info({"revision": "revision", "stage": "stage"})
    metrics.control.take_expiries(dict.fromkeys(names, 1.0))
    metrics.control.take_bias_scores(dict.fromkeys(itertools.product(BIAS_SUITES, model_ids), 0.5))
    return metrics


def series(metrics: Metrics) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Each sample's name and labels, those of the process left out."""
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in WithoutCreated(metrics.registry).collect()
        for sample in family.samples
        if not family.name.startswith(("process_", "python_"))
    }


@pytest.mark.parametrize("shape", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (2, 3, 0), (5, 10, 8)])
def test_the_formula_of_the_docs_holds(shape: tuple[int, int, int]) -> None:
    models, partners, categories = shape
    found = re.search(r"(\d+) \+ (\d+) M \+ (\d+) P \+ (\d+) M P \+ \(P \+ (\d+)\) C", DOC)
    assert found is not None
    base, of_model, of_partner, of_both, others = map(int, found.groups())

    counted = len(series(deployment(*shape)))

    told = base + of_model * models + of_partner * partners + of_both * models * partners
    assert counted == told + (partners + others) * categories


def test_the_number_of_the_docs_holds_and_is_bounded() -> None:
    counted = len(series(deployment(5, 10, 8)))

    assert f"Five models, ten partners and eight categories make {counted:,}." in DOC
    assert counted < MOST


def test_ten_thousand_hostile_values_create_no_series_and_are_counted() -> None:
    metrics = deployment(5, 10, 8)
    before = series(metrics)

    for number in range(10_000):
        name = f'hostile-{number}"}} 1\n'
        model, partner = metrics.model(name), metrics.partner(name)
        metrics.access.decisions.labels("denied", "MODEL_NOT_RELEASED", model).inc()
        metrics.access.requests.labels(partner, model, "generate").inc()
        metrics.signals.take_prompt(name, is_duplicate=True)
        metrics.signals.take_flagged(name, name)
        metrics.signals.take_pii(name, name)
        metrics.signals.take_memorisation_suspect(name)

    overflow = "sluicegate_label_overflow_total"
    assert series(metrics) == before
    assert metrics.registry.get_sample_value(overflow, {"label": "model"}) == 20_000
    assert metrics.registry.get_sample_value(overflow, {"label": "partner"}) == 40_000
    assert metrics.registry.get_sample_value(overflow, {"label": "category"}) == 10_000
    assert metrics.registry.get_sample_value(overflow, {"label": "type"}) == 10_000


def test_a_policy_that_is_loaded_again_creates_no_series() -> None:
    metrics = deployment(5, 10, 8)
    before = series(metrics)

    metrics.allow(["model-1"], ["partner-1"])

    assert series(metrics) == before


def test_times_at_which_series_were_made_do_not_leave() -> None:
    assert [name for name, _ in series(deployment(1, 1, 1)) if name.endswith("_created")] == []
