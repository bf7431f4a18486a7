from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest

from sluicegate.auth import Reason
from sluicegate.server.observe.access import ACTIONS
from sluicegate.server.observe.exposition import WithoutCreated
from sluicegate.server.observe.labels import OTHER
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.observe.rpcs import CANCELLED, GRPC_CODES
from sluicegate.server.rpc.status import STATUSES

HOSTILE = ["x" * 10_000, 'a"} 1\ninjected{b="', "\x00", "../../etc", "", "gpt2-124m "]


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    metrics.allow(["gpt2-124m"], {"example-lab"})
    return metrics


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample, by its name with labels as Prometheus writes them."""
    lines = generate_latest(WithoutCreated(metrics.registry)).decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


def combinations() -> Iterator[str]:
    """Series that alerts and dashboards ask for before anything has happened."""
    for model in ("gpt2-124m", OTHER):
        yield f'sluicegate_decisions_total{{decision="allowed",model="{model}",reason="NONE"}}'
        yield f'sluicegate_streams_terminated_total{{cause="{CANCELLED}",model="{model}"}}'
        for reason in Reason:
            yield f'sluicegate_decisions_total{{decision="denied",model="{model}",reason="{reason}"}}'
            yield f'sluicegate_streams_terminated_total{{cause="{reason}",model="{model}"}}'
        for partner in ("example-lab", "public", "internal", OTHER):
            yield f'sluicegate_streams_active{{model="{model}",partner="{partner}"}}'
            for action in ACTIONS:
                yield f'sluicegate_requests_total{{action="{action}",model="{model}",partner="{partner}"}}'
            for direction in ("input", "output"):
                yield f'sluicegate_tokens_total{{direction="{direction}",model="{model}",partner="{partner}"}}'
        for name in ("request_duration_seconds", "time_to_first_token_seconds", "time_per_output_token_seconds"):
            yield f'gen_ai_server_{name}_count{{gen_ai_request_model="{model}"}}'
    for label in ("model", "partner"):
        yield f'sluicegate_label_overflow_total{{label="{label}"}}'
    for result in ("loaded", "refused"):
        yield f'sluicegate_policy_reloads_total{{result="{result}"}}'
    yield "sluicegate_policy_refused"
    yield "sluicegate_engine_restarts_total"


def test_series_exist_at_the_start_with_nothing_counted(metrics: Metrics) -> None:
    found = samples(metrics)

    assert {name: found.get(name) for name in combinations()} == dict.fromkeys(combinations(), 0)


def test_a_series_of_every_code_exists_for_every_method(metrics: Metrics) -> None:
    metrics.rpcs.expect(["/package.Service/Method"])

    found = samples(metrics)

    method = 'grpc_method="Method",grpc_service="package.Service"'
    assert found[f"grpc_server_started_total{{{method}}}"] == 0
    for code in GRPC_CODES:
        assert found[f'grpc_server_handled_total{{grpc_code="{code}",{method}}}'] == 0


def test_every_code_that_a_reason_has_is_among_the_expected_ones() -> None:
    assert {row.code.name for row in STATUSES.values()} <= set(GRPC_CODES)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_that_nobody_knows_is_counted_as_other(metrics: Metrics, name: str) -> None:
    before = set(samples(metrics))

    label = metrics.model(name)
    metrics.access.decisions.labels("denied", "MODEL_NOT_RELEASED", label).inc()

    after = samples(metrics)
    assert label == OTHER
    assert set(after) == before
    assert after['sluicegate_label_overflow_total{label="model"}'] == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_a_partner_that_nobody_knows_is_counted_as_other(metrics: Metrics, name: str) -> None:
    assert metrics.partner(name) == OTHER
    assert samples(metrics)['sluicegate_label_overflow_total{label="partner"}'] == 1


def test_what_a_policy_has_keeps_its_name_also_after_the_next_policy(metrics: Metrics) -> None:
    metrics.allow(["gpt2-355m"], {"other-lab"})

    assert [metrics.model(name) for name in ("gpt2-124m", "gpt2-355m")] == ["gpt2-124m", "gpt2-355m"]
    assert [metrics.partner(name) for name in ("example-lab", "other-lab")] == ["example-lab", "other-lab"]
    assert 'sluicegate_requests_total{action="score",model="gpt2-124m",partner="other-lab"}' in samples(metrics)


def test_names_have_their_unit_and_help_is_a_sentence(metrics: Metrics) -> None:
    families = [family for family in metrics.registry.collect() if not family.name.startswith(("process", "python"))]

    assert families
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert family.type != "histogram" or re.search(r"_(seconds|size)$", family.name), family.name
        assert not re.search(r"milli|_ms\b", family.name)
