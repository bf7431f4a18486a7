from __future__ import annotations

import json

from client_server import FakeServer
from client_terminal import sluicegate
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.v1 import access_service_pb2, model_service_pb2, reason_pb2
from sluicegate.v1.access_service_pb2 import CheckAccessRequest, CheckAccessResponse, GetCallerIdentityResponse

PARTNER = GetCallerIdentityResponse(
    issuer="https://issuer.example",
    subject="alice\x1b[2J",
    client_id="lab",
    audience=model_service_pb2.AUDIENCE_PARTNER,
    scopes=["generate:a", "score:a"],
    token_expire_time=Timestamp(seconds=1_770_000_000),
    agreement=access_service_pb2.AgreementTerms(id="agr-1", partner="lab", status="active", purposes=["p"]),
    stage="s1",
)


def test_whoami_shows_a_partner_and_the_agreement(server: FakeServer) -> None:
    server.will("GetCallerIdentity", [PARTNER])

    result = sluicegate("whoami", "--target", server.target)

    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines() if line.strip()]
    assert result.exit_code == 0
    assert ["caller", "alice[2J"] in [[cell.strip() for cell in row] for row in rows]
    assert "token expires" in result.stdout
    assert "2026-02-02 02:40:00 UTC" in result.stdout
    assert "agr-1 (active), lab" in result.stdout
    assert "valid until" not in result.stdout


def test_whoami_says_when_there_is_no_caller(server: FakeServer) -> None:
    server.will("GetCallerIdentity", [GetCallerIdentityResponse(audience=model_service_pb2.AUDIENCE_PUBLIC)])

    result = sluicegate("whoami", "--target", server.target)

    assert [line.split() for line in result.stdout.splitlines() if line.strip()] == [
        ["caller", "anonymous"],
        ["counts", "as", "public"],
    ]


def test_whoami_json_has_times_in_iso_8601(server: FakeServer) -> None:
    server.will("GetCallerIdentity", [PARTNER])

    result = sluicegate("whoami", "--json", "--target", server.target)

    assert json.loads(result.stdout)["token_expires"] == "2026-02-02T02:40:00+00:00"


def test_quotas_are_a_table_with_their_resets(server: FakeServer) -> None:
    day = access_service_pb2.QuotaUsage(quota=access_service_pb2.QUOTA_OUTPUT_TOKENS_PER_DAY, limit=50_000, used=1_234)
    day.reset_time.FromSeconds(1_770_000_000)
    server.will("ListQuotas", [access_service_pb2.ListQuotasResponse(quotas=[day])])

    result = sluicegate("quotas", "m", "--target", server.target)

    heading, row = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert heading == ["quota", "used", "limit", "resets"]
    assert row == ["output_tokens_per_day", "1,234", "50,000", "2026-02-02", "02:40:00", "UTC"]


def test_quotas_say_when_nothing_limits_the_caller(server: FakeServer) -> None:
    server.will("ListQuotas", [access_service_pb2.ListQuotasResponse()])

    result = sluicegate("quotas", "m", "--target", server.target)

    assert (result.exit_code, result.stdout) == (0, "nothing limits the caller\n")


def test_check_says_under_what_a_call_would_be_allowed(server: FakeServer) -> None:
    allowed = CheckAccessResponse(
        allowed=True,
        audience=model_service_pb2.AUDIENCE_PARTNER,
        agreement="agr-1",
        max_output_tokens=512,
        max_priority=3,
    )
    server.will("CheckAccess", [allowed])

    result = sluicegate("check", "m", "--target", server.target)

    told = "allowed as partner under agr-1, at most 512 output tokens, priority up to 3\n"
    assert (result.exit_code, result.stdout) == (0, told)


def test_check_of_a_score_has_no_word_of_output_tokens(server: FakeServer) -> None:
    allowed = CheckAccessResponse(
        allowed=True, audience=model_service_pb2.AUDIENCE_PARTNER, agreement="agr-1", max_output_tokens=512
    )
    server.will("CheckAccess", [allowed])

    result = sluicegate("check", "m", "--action", "score", "--target", server.target)

    assert (result.exit_code, result.stdout) == (0, "allowed as partner under agr-1\n")


def test_check_says_why_a_call_would_be_refused_and_what_would_help(server: FakeServer) -> None:
    refused = CheckAccessResponse(
        reason=reason_pb2.REASON_SCOPE_MISSING, metadata={"required_scope": "score:m"}, remedy="Get the scope."
    )
    server.will("CheckAccess", [refused])

    result = sluicegate(
        *("check", "m", "--target", server.target, "--action", "score", "--purpose", "p"),
        *("--response-logprobs", "--greedy", "--include-tokens"),
    )

    assert (result.exit_code, result.stdout) == (
        1,
        "refused: SCOPE_MISSING, required_scope score:m\n  Get the scope.\n",
    )
    assert server.calls[0].request == CheckAccessRequest(
        action="score", model="m", purpose="p", response_logprobs=True, greedy=True, include_tokens=True
    )


def test_check_knows_a_remedy_where_the_server_names_none(server: FakeServer) -> None:
    server.will("CheckAccess", [CheckAccessResponse(reason=reason_pb2.REASON_AGREEMENT_REQUIRED)])

    result = sluicegate("check", "m", "--target", server.target)

    assert result.stdout == "refused: AGREEMENT_REQUIRED\n  ask the operator for an agreement\n"


def test_check_json_has_the_same_exit_code(server: FakeServer) -> None:
    server.will("CheckAccess", [CheckAccessResponse(reason=reason_pb2.REASON_AGREEMENT_REQUIRED)])

    result = sluicegate("check", "m", "--json", "--target", server.target)

    assert (result.exit_code, json.loads(result.stdout)["reason"]) == (1, "AGREEMENT_REQUIRED")


def test_an_action_that_does_not_exist_is_wrong_usage() -> None:
    assert sluicegate("check", "m", "--action", "destroy").exit_code == 2
