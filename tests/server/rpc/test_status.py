from __future__ import annotations

import re

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode

from sluicegate.auth import Reason
from sluicegate.server.access import REMEDIES
from sluicegate.server.errors import CallRefused, FieldViolation
from sluicegate.server.rpc.status import STATUSES, rpc_status, trailers
from sluicegate.v1.reason_pb2 import Reason as WireReason

MAY_BE_TRIED_AGAIN = {
    Reason.KEYS_STALE,
    Reason.WITHDRAWALS_STALE,
    Reason.MODEL_NOT_READY,
    Reason.SERVER_OVERLOADED,
    Reason.AUDIT_UNAVAILABLE,
    Reason.STATE_UNAVAILABLE,
    Reason.SERVER_DRAINING,
    Reason.ENGINE_LOST,
}


def test_every_reason_has_a_status_and_a_number_on_the_wire() -> None:
    assert set(STATUSES) == set(Reason)
    assert {f"REASON_{reason}" for reason in Reason} == set(WireReason.keys()) - {"REASON_UNSPECIFIED"}


def test_only_what_another_replica_may_serve_is_unavailable() -> None:
    assert {reason for reason, row in STATUSES.items() if row.code is StatusCode.UNAVAILABLE} == MAY_BE_TRIED_AGAIN


def test_every_text_is_a_sentence_of_its_own() -> None:
    texts = [row.text for row in STATUSES.values()]

    assert len(set(texts)) == len(texts)
    assert not any(re.search(r"[{}%]|\.$", text) for text in texts)


@pytest.mark.parametrize("reason", Reason)
def test_details_are_packed_whole(reason: Reason) -> None:
    refused = CallRefused(
        reason, {"fact": "value"}, violations=[FieldViolation("field", "rule")], retry_after_seconds=1.25
    )

    status = rpc_status(refused, "request-1")

    info, bad, retry, request = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
        error_details_pb2.RequestInfo(),
    )
    for detail, message in zip(status.details, (info, bad, retry, request), strict=True):
        assert detail.Unpack(message)
    assert (status.code, status.message) == (STATUSES[reason].code.value[0], STATUSES[reason].text)
    assert (info.domain, info.reason, dict(info.metadata)) == ("sluicegate", reason.value, {"fact": "value"})
    assert [(each.field, each.description) for each in bad.field_violations] == [("field", "rule")]
    assert retry.retry_delay.ToNanoseconds() == 1_250_000_000
    assert request.request_id == "request-1"


@pytest.mark.parametrize("reason", Reason)
def test_what_was_cancelled_on_purpose_and_nothing_else_is_not_to_be_retried(reason: Reason) -> None:
    pushback = dict(trailers(CallRefused(reason), "1")).get("grpc-retry-pushback-ms")

    assert pushback == ("-1" if STATUSES[reason].code is StatusCode.CANCELLED else None)


def test_the_pushback_is_in_whole_milliseconds() -> None:
    assert (
        dict(trailers(CallRefused(Reason.SERVER_OVERLOADED, retry_after_seconds=0.0126), "1"))["grpc-retry-pushback-ms"]
        == "13"
    )
    assert "grpc-retry-pushback-ms" not in dict(trailers(CallRefused(Reason.INTERNAL), "1"))


def test_every_denial_of_a_decision_has_a_remedy() -> None:
    rows = list(Reason)
    decided = rows[rows.index(Reason.SCOPE_MISSING) : rows.index(Reason.WITHDRAWALS_STALE)]

    assert {*decided, Reason.TOKEN_MISSING, Reason.TOKEN_LIFETIME_EXCESSIVE, Reason.WITHDRAWALS_STALE} <= set(REMEDIES)
