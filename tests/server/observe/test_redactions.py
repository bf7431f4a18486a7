from __future__ import annotations

import pytest

from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.signals import PiiType


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    metrics.allow([], ["lab"])
    return metrics


def value(metrics: Metrics, partner: str, kind: PiiType) -> float | None:
    labels = {"partner": partner, "type": kind.value}
    return metrics.registry.get_sample_value("sluicegate_pii_redactions_total", labels)


def test_every_type_has_a_series_before_anything_was_taken_out(metrics: Metrics) -> None:
    partners = ("lab", "public", "internal", "other")

    assert {value(metrics, partner, kind) for partner in partners for kind in PiiType} == {0}


def test_redactions_are_counted_by_type(metrics: Metrics) -> None:
    metrics.redactions.take("lab", {PiiType.EMAIL: 2, PiiType.CARD: 1})
    metrics.redactions.take("lab", {PiiType.EMAIL: 1})

    assert value(metrics, "lab", PiiType.EMAIL) == 3
    assert value(metrics, "lab", PiiType.CARD) == 1
    assert value(metrics, "lab", PiiType.PHONE) == 0
