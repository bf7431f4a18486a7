from __future__ import annotations

import pytest

from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.observe.signals import PII_TYPES
from sluicegate.server.signals.sketches import Figures


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics(flagged_categories=["fraud"])
    metrics.allow(["gpt2-124m"], ["lab"])
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"sluicegate_{name}", labels)


def test_every_allowed_value_has_a_series_before_anything_was_found(metrics: Metrics) -> None:
    for partner in ("lab", "public", "internal", "other"):
        for type_ in PII_TYPES:
            assert value(metrics, "pii_found_total", partner=partner, type=type_) == 0
        assert value(metrics, "flagged_lexicon_total", partner=partner, category="fraud") == 0
        for name in ("prompts_seen_total", "output_duplicates_total", "template_campaigns", "networks_per_token_max"):
            assert value(metrics, name, partner=partner) == 0
    assert value(metrics, "memorisation_suspects_total", model="gpt2-124m") == 0
    assert value(metrics, "signals_dropped_total", kind="output") == 0
    assert value(metrics, "signals_exchange_age_seconds") == 0


def test_a_duplicate_was_seen_too(metrics: Metrics) -> None:
    metrics.signals.take_prompt("lab", is_duplicate=False)
    metrics.signals.take_prompt("lab", is_duplicate=True)
    metrics.signals.take_output("lab", is_duplicate=True)

    counts = ("prompts_seen", "prompt_duplicates", "outputs_seen", "output_duplicates")
    assert [value(metrics, f"{name}_total", partner="lab") for name in counts] == [2, 1, 1, 1]


def test_the_windows_of_all_replicas_are_shown_as_they_are(metrics: Metrics) -> None:
    metrics.signals.take_figures(
        "lab", Figures(0.5, 0.25, prompts_distinct=120, template_campaigns=3, networks_per_token_max=4)
    )

    assert value(metrics, "prompt_duplicate_ratio", partner="lab") == 0.5
    assert value(metrics, "output_duplicate_ratio", partner="lab") == 0.25
    assert value(metrics, "template_campaigns", partner="lab") == 3
    assert value(metrics, "prompts_distinct_estimate", partner="lab") == 120
    assert value(metrics, "networks_per_token_max", partner="lab") == 4


def test_findings_are_counted_by_what_they_are(metrics: Metrics) -> None:
    metrics.signals.take_pii("lab", "email", 3)
    metrics.signals.take_flagged("lab", "fraud")
    metrics.signals.take_memorisation_suspect("gpt2-124m")
    metrics.signals.take_dropped("prompt", 7)

    assert value(metrics, "pii_found_total", partner="lab", type="email") == 3
    assert value(metrics, "flagged_lexicon_total", partner="lab", category="fraud") == 1
    assert value(metrics, "memorisation_suspects_total", model="gpt2-124m") == 1
    assert value(metrics, "signals_dropped_total", kind="prompt") == 7


def test_what_is_in_no_closed_set_is_other(metrics: Metrics) -> None:
    metrics.signals.take_flagged("nobody", "made up")
    metrics.signals.take_pii("nobody", "made up")

    assert value(metrics, "flagged_lexicon_total", partner="other", category="other") == 1
    assert value(metrics, "pii_found_total", partner="other", type="other") == 1
    assert value(metrics, "label_overflow_total", label="category") == 1
    assert value(metrics, "label_overflow_total", label="type") == 1
