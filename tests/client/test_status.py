from __future__ import annotations

from collections.abc import Sequence

import grpc
import pytest
from client_server import Refusal, packed
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from sluicegate.client import errors
from sluicegate.client.results import Usage
from sluicegate.client.status import call_error, printable
from sluicegate.v1 import reason_pb2

DENIED = grpc.StatusCode.PERMISSION_DENIED
CLASSES = {
    grpc.StatusCode.UNAUTHENTICATED: errors.AuthenticationFailed,
    grpc.StatusCode.PERMISSION_DENIED: errors.AccessDenied,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.QuotaExceeded,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.ABORTED: errors.ReaderStalled,
    grpc.StatusCode.UNIMPLEMENTED: errors.ServerFault,
    grpc.StatusCode.INTERNAL: errors.ServerFault,
    grpc.StatusCode.UNKNOWN: errors.ServerFault,
    grpc.StatusCode.DATA_LOSS: errors.ServerFault,
    grpc.StatusCode.NOT_FOUND: errors.InvalidRequest,
    grpc.StatusCode.ALREADY_EXISTS: errors.ServerFault,
}
REASONS = [
    name.removeprefix("REASON_") for name in reason_pb2.Reason.DESCRIPTOR.values_by_name if name != "REASON_UNSPECIFIED"
]


def error_of(refusal: Refusal) -> errors.CallError:
    return call_error(refusal.code, refusal.text, refusal.trailers())


def details(*messages: Message, code: grpc.StatusCode = DENIED) -> Sequence[tuple[str, bytes]]:
    status = status_pb2.Status(code=code.value[0], details=map(packed, messages))
    return [("grpc-status-details-bin", status.SerializeToString())]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_each_code_has_the_class_that_says_what_to_do(code: grpc.StatusCode) -> None:
    error = call_error(code, "text", ())

    assert type(error) is CLASSES[code]
    assert (error.code, error.reason) == (code, None)


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE])
def test_every_reason_of_the_api_arrives_with_its_remedy(reason: str, code: grpc.StatusCode) -> None:
    error = error_of(Refusal(code=code, reason=reason))

    assert error.reason == reason
    assert error.remedy in str(error)
    assert reason in str(error)


def test_all_details_of_a_refusal_arrive() -> None:
    refusal = Refusal(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="REQUEST_INVALID",
        text="a field breaks its rule",
        metadata={"field": "config.top_p"},
        violations=[("config.top_p", "must be at most 1")],
        retry_after=1.5,
        request_id="0192",
        usage=(3, 4),
    )

    error = error_of(refusal)

    assert error.metadata == {"field": "config.top_p"}
    assert error.field_violations == (errors.FieldViolation("config.top_p", "must be at most 1"),)
    assert (error.retry_after, error.request_id) == (1.5, "0192")
    assert error.usage == Usage(prompt_tokens=3, output_tokens=4)
    assert "config.top_p: must be at most 1" in str(error)


def test_without_retry_info_the_pushback_says_how_long_to_wait() -> None:
    assert error_of(Refusal(code=DENIED, reason="INTERNAL", pushback_ms="250")).retry_after == 0.25


def test_retry_info_comes_before_the_pushback() -> None:
    assert error_of(Refusal(code=DENIED, retry_after=2, pushback_ms="250")).retry_after == 2


@pytest.mark.parametrize("pushback", ["-1", "", "soon", "1.5", "\N{FULLWIDTH DIGIT ONE}", "9" * 13])
def test_a_pushback_that_names_no_time_is_left_out(pushback: str) -> None:
    assert error_of(Refusal(code=DENIED, pushback_ms=pushback)).retry_after is None


def test_a_negative_retry_delay_is_left_out() -> None:
    assert error_of(Refusal(code=DENIED, retry_after=-1)).retry_after is None


def test_a_reason_of_a_newer_server_is_kept() -> None:
    assert error_of(Refusal(code=DENIED, reason="SOMETHING_NEW")).reason == "SOMETHING_NEW"


@pytest.mark.parametrize(
    "info",
    [
        error_details_pb2.ErrorInfo(reason="SCOPE_MISSING", domain="googleapis.com"),
        error_details_pb2.ErrorInfo(reason="scope missing", domain="sluicegate"),
        error_details_pb2.ErrorInfo(reason="A\nB", domain="sluicegate"),
        error_details_pb2.ErrorInfo(reason="A" * 64, domain="sluicegate"),
    ],
)
def test_a_reason_of_another_domain_or_form_is_none_of_ours(info: error_details_pb2.ErrorInfo) -> None:
    assert call_error(DENIED, "text", details(info)).reason is None


@pytest.mark.parametrize(
    "trailers",
    [
        [("grpc-status-details-bin", b"\xff\xff\xff")],
        [("grpc-status-details-bin", "text")],
        [("grpc-status-details-bin", b"")],
        [("sluicegate-usage-bin", b"\xff")],
        [("sluicegate-usage-bin", "12")],
    ],
)
def test_trailers_that_cannot_be_read_never_hide_the_status(trailers: Sequence[tuple[str, str | bytes]]) -> None:
    error = call_error(DENIED, "text", trailers)

    assert type(error) is errors.AccessDenied
    assert (error.reason, error.usage, error.message) == (None, None, "text")


def test_one_broken_detail_does_not_hide_the_others() -> None:
    good = error_details_pb2.ErrorInfo(reason="SCOPE_MISSING", domain="sluicegate")
    status = status_pb2.Status(code=DENIED.value[0], details=[packed(good), packed(good)])
    status.details[0].value = b"\xff"

    error = call_error(DENIED, "text", [("grpc-status-details-bin", status.SerializeToString())])

    assert error.reason == "SCOPE_MISSING"


def test_details_of_another_status_are_not_believed() -> None:
    info = error_details_pb2.ErrorInfo(reason="SCOPE_MISSING", domain="sluicegate")

    error = call_error(DENIED, "text", details(info, code=grpc.StatusCode.INTERNAL))

    assert error.reason is None


@pytest.mark.parametrize("steering", ["\x1b[2J", "\r", "\n", "\x9b31m", "\u202e", "\x00"])
def test_nothing_from_the_network_can_steer_a_terminal(steering: str) -> None:
    refusal = Refusal(
        code=DENIED,
        reason="SCOPE_MISSING",
        metadata={"required_scope": f"a{steering}b"},
        violations=[(f"a{steering}b", f"a{steering}b")],
        request_id=f"a{steering}b",
    )

    error = call_error(DENIED, f"a{steering}b", refusal.trailers())

    assert steering not in str(error)
    assert steering not in f"{error.request_id}{error.metadata}"


def test_text_from_the_network_is_cut() -> None:
    assert len(printable("x" * 100_000)) == 1_000
