"""Nobody creates series: what is outside the closed sets is `other`, and counted."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from sluicegate.server.observe.labels import ClosedSets


def overflow(registry: CollectorRegistry, label: str) -> float | None:
    return registry.get_sample_value("sluicegate_label_overflow_total", {"label": label})


def test_a_label_that_overflows_is_counted_under_its_name() -> None:
    registry = CollectorRegistry()
    labels = ClosedSets(registry)
    labels.allow(["gpt2-124m"], ["example-lab"])

    found = [labels.model("gpt2-124m"), labels.model("nope"), labels.partner("nope"), labels.partner("public")]

    assert found == ["gpt2-124m", "other", "other", "public"]
    assert (overflow(registry, "model"), overflow(registry, "partner"), overflow(registry, "category")) == (1, 1, 0)


def test_a_caller_of_whom_nothing_is_believed_is_no_overflow() -> None:
    registry = CollectorRegistry()

    assert ClosedSets(registry).partner("other") == "other"
    assert overflow(registry, "partner") == 0
