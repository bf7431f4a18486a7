from __future__ import annotations

from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.observe.quotas import LIMITS
from sluicegate.server.state import Quota


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"sluicegate_quota_{name}", labels)


def test_the_limits_are_the_quotas_that_the_ledger_counts() -> None:
    assert tuple(quota.value for quota in Quota) == LIMITS


def test_a_limit_that_is_not_named_is_not_used() -> None:
    metrics = Metrics()
    metrics.allow([], ["lab"])
    metrics.quotas.take_used("lab", {"concurrent_streams": 0.5, "output_tokens_per_day": 0.9})

    metrics.quotas.take_used("lab", {"output_tokens_per_day": 0.8})

    assert value(metrics, "used_ratio", partner="lab", limit="output_tokens_per_day") == 0.8
    assert value(metrics, "used_ratio", partner="lab", limit="concurrent_streams") == 0


def test_many_accounts_have_refusals_but_no_ratio() -> None:
    metrics = Metrics()

    for partner in ("public", "internal", "other"):
        assert value(metrics, "used_ratio", partner=partner, limit="output_tokens_per_day") is None
        assert value(metrics, "refusals_total", partner=partner, limit="output_tokens_per_day") == 0
