from __future__ import annotations

from sluicegate.auth import Audience
from sluicegate.client.commands.bias import SuiteName
from sluicegate.server.audit import Cause
from sluicegate.server.observe.control import AUDIT_CAUSES, BIAS_SUITES, WITHDRAWAL_KINDS
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.state.withdrawals import KINDS


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"sluicegate_{name}", labels)


def test_the_closed_sets_are_those_of_the_code() -> None:
    assert set(AUDIT_CAUSES) == {cause.value for cause in Cause}
    assert set(WITHDRAWAL_KINDS) == set(KINDS)
    assert set(BIAS_SUITES) == {suite.value for suite in SuiteName}


def test_of_the_policy_only_the_revision_in_force_has_a_series() -> None:
    metrics = Metrics()

    metrics.control.policy_info.info({"revision": "old", "stage": "s1"})
    metrics.control.policy_info.info({"revision": "new", "stage": "s2"})

    assert value(metrics, "policy_info", revision="new", stage="s2") == 1
    assert value(metrics, "policy_info", revision="old", stage="s1") is None


def test_a_model_is_open_to_an_audience_and_those_above_it() -> None:
    metrics = Metrics()
    metrics.allow(["small", "large"], [])

    metrics.control.take_open(["small", "large"], {"small": Audience.PARTNER})

    opened = {
        (model, audience.value): value(metrics, "model_open", model=model, audience=audience.value)
        for model in ("small", "large")
        for audience in Audience
    }
    assert opened == {
        ("small", "public"): 0,
        ("small", "partner"): 1,
        ("small", "internal"): 1,
        ("large", "public"): 0,
        ("large", "partner"): 0,
        ("large", "internal"): 0,
    }


def test_a_model_whose_evidence_is_gone_has_no_bias_score() -> None:
    metrics = Metrics()
    metrics.control.take_bias_scores({("winobias", "small"): 0.5, ("winobias", "large"): 0.6})

    metrics.control.take_bias_scores({("winobias", "large"): 0.55})

    assert value(metrics, "bias_score", suite="winobias", model="small") is None
    assert value(metrics, "bias_score", suite="winobias", model="large") == 0.55


def test_a_partner_whose_agreements_are_gone_has_no_expiry() -> None:
    metrics = Metrics()
    metrics.control.take_expiries({"lab": 5.0, "other-lab": 6.0})

    metrics.control.take_expiries({"lab": 7.0})

    assert value(metrics, "agreement_expiry_timestamp_seconds", partner="lab") == 7
    assert value(metrics, "agreement_expiry_timestamp_seconds", partner="other-lab") is None


def test_withdrawals_are_counted_by_kind() -> None:
    metrics = Metrics()
    nothing = dict.fromkeys(WITHDRAWAL_KINDS, 0)
    metrics.control.take_withdrawals({**nothing, "client": 2, "model": 1})

    metrics.control.take_withdrawals({**nothing, "client": 1, "token": 1})

    counts = {kind: value(metrics, "withdrawals_in_force", kind=kind) for kind in WITHDRAWAL_KINDS}
    assert {kind: count for kind, count in counts.items() if count} == {"client": 1, "token": 1}
