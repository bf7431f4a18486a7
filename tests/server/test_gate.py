from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

import pytest
from audits import call_of
from issuer import NOW
from policies import agreement, policy

from sluicegate.auth import AccessRequest, Denied, Grant, Peer, Principal, Reason
from sluicegate.server.caller import Caller
from sluicegate.server.errors import CallRefused
from sluicegate.server.gate import NO_KEY, Gate
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.watermark import Keyring, WatermarkKey

PARTNER = Caller(
    Principal(
        issuer="https://issuer.example",
        subject="lab",
        client_id="lab-app",
        token_id="token-1",
        key_id="key",
        scopes=frozenset({"generate:gpt2-774m", "score:gpt2-774m", "logprobs:gpt2-774m"}),
        authorization_details=(),
        issued_at=NOW,
        expires_at=NOW + 600,
        authenticated_at=NOW,
        acr=None,
        certificate_thumbprint=None,
    ),
    Peer(ip_address("192.0.2.7")),
)
KEYLESS = Keyring()
CALL = call_of(PARTNER, policy(None, agreement()))
GENERATE = AccessRequest(action="generate", model="gpt2-774m", purpose="human-susceptibility")
SCORE = AccessRequest(action="score", model="gpt2-774m", purpose="human-susceptibility", logprobs=True)


def gate(
    output: Mapping[str, str] | None = None,
    metrics: Metrics | None = None,
    age: float | None = 0.0,
    keyring: Keyring = KEYLESS,
) -> Gate:
    """A gate before an agreement with these output terms and no others in the way."""
    in_force = policy(None, agreement(output=dict(output or {}), token={}, hours=None))
    return Gate(lambda: in_force, metrics or Metrics(), lambda: NOW, withdrawals_age=lambda: age, keyring=keyring)


@pytest.mark.parametrize(
    ("output", "facts"),
    [
        ({"watermark": "required"}, {"term": "watermark", "cause": NO_KEY}),
        ({"watermark": "where_possible"}, {"term": "watermark", "cause": NO_KEY}),
    ],
)
def test_duty_that_the_server_cannot_fulfil_refuses_every_generation(
    output: dict[str, str], facts: dict[str, str]
) -> None:
    outcome = gate(output).decide(PARTNER, GENERATE)

    assert outcome == Denied(Reason.OUTPUT_TERMS_CONFLICT, facts)
    with pytest.raises(CallRefused) as refused:
        gate(output).admit(CALL, GENERATE, counted_as="generate")
    assert refused.value.reason is Reason.OUTPUT_TERMS_CONFLICT


def test_a_model_with_a_key_is_served_with_a_watermark() -> None:
    keyring = Keyring([WatermarkKey("gpt2-774m", 1, bytes(32))])

    for term in ("required", "where_possible"):
        outcome = gate({"watermark": term}, keyring=keyring).decide(PARTNER, GENERATE)
        assert isinstance(outcome, Grant)
        assert outcome.watermark


def test_redaction_is_granted() -> None:
    outcome = gate({"redaction": "pii"}).decide(PARTNER, GENERATE)

    assert isinstance(outcome, Grant)
    assert outcome.redaction == "pii"


def test_output_duties_leave_alone_what_writes_no_text() -> None:
    strict = gate({"watermark": "required", "redaction": "pii", "flagged": "stop"})

    assert isinstance(strict.decide(PARTNER, SCORE), Grant)
    assert isinstance(strict.admit(CALL, GENERATE, counted_as="tokenize"), Grant)


def test_admission_and_refusal_are_counted() -> None:
    metrics = Metrics()
    metrics.allow(["gpt2-774m"], ["example-lab"])

    gate(metrics=metrics).admit(CALL, GENERATE, counted_as="generate")
    with pytest.raises(CallRefused):
        gate({"watermark": "required"}, metrics).admit(CALL, GENERATE, counted_as="generate")

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"model": "gpt2-774m", **labels})

    assert value("sluicegate_decisions_total", decision="allowed", reason="NONE") == 1
    assert value("sluicegate_decisions_total", decision="denied", reason="OUTPUT_TERMS_CONFLICT") == 1
    assert value("sluicegate_requests_total", partner="example-lab", action="generate") == 1


@pytest.mark.parametrize("age", [None, 5.1])
def test_partners_wait_for_a_list_of_withdrawals_that_is_fresh(age: float | None) -> None:
    outcome = gate(age=age).decide(PARTNER, SCORE)

    assert isinstance(outcome, Denied)
    assert outcome.reason is Reason.WITHDRAWALS_STALE


def test_a_list_that_was_just_confirmed_is_fresh() -> None:
    assert isinstance(gate(age=4.9).decide(PARTNER, SCORE), Grant)
