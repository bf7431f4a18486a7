"""AccessService through the wire. test_decision_table.py asks CheckAccess every case of the table."""

from __future__ import annotations

from pathlib import Path

from harness import LONG_SECONDS, SMALL, Server, bearer, demo_plan, open_agreement, serving
from issuer import NOW

from sluicegate.v1 import model_service_pb2
from sluicegate.v1.access_service_pb2 import (
    CheckAccessRequest,
    GetCallerIdentityRequest,
    GetCallerIdentityResponse,
)
from sluicegate.v1.reason_pb2 import REASON_SCOPE_MISSING


async def identity(server: Server, metadata: tuple[tuple[str, str], ...]) -> GetCallerIdentityResponse:
    answer: GetCallerIdentityResponse = await server.access.GetCallerIdentity(
        GetCallerIdentityRequest(), metadata=metadata, timeout=LONG_SECONDS
    )
    return answer


async def test_a_caller_is_told_what_its_token_says(server: Server) -> None:
    told = await identity(server, bearer(scope="score:gpt2-124m generate:gpt2-124m"))

    assert (told.issuer, told.subject, told.client_id) == ("https://issuer.example", "alice", "app")
    assert list(told.scopes) == ["generate:gpt2-124m", "score:gpt2-124m"]
    assert told.audience == model_service_pb2.AUDIENCE_PUBLIC
    assert told.token_expire_time.seconds == NOW + 900
    assert told.stage == "s2"
    assert len(told.policy_revision) == 64
    assert not told.HasField("agreement")


async def test_a_partner_is_told_its_terms(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement(purposes=["human-susceptibility"])]) as server:
        told = await identity(server, bearer(client_id="lab-app"))

        assert told.audience == model_service_pb2.AUDIENCE_PARTNER
        terms = told.agreement
        assert (terms.id, terms.partner, terms.status) == ("agr-example-lab", "example-lab", "active")
        assert list(terms.models) == ["gpt2-124m", "gpt2-774m"]
        assert list(terms.actions) == ["generate", "score"]
        assert list(terms.purposes) == ["human-susceptibility"]
        assert terms.valid_from.ToJsonString() == "2026-01-20T00:00:00Z"
        assert terms.valid_until.ToJsonString() == "2027-01-20T00:00:00Z"


async def test_a_stranger_who_names_an_agreement_is_told_nothing_of_it(tmp_path: Path) -> None:
    details = [{"type": "model_partnership", "agreement": "agr-example-lab"}]
    async with serving(tmp_path, agreements=[open_agreement()]) as server:
        told = await identity(server, bearer(client_id="mallory", authorization_details=details))

        assert not told.HasField("agreement")


async def test_a_caller_without_a_token_is_nobody(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 64}}
    async with serving(tmp_path, plan) as server:
        told = await identity(server, ())

        assert (told.issuer, told.subject, told.client_id, list(told.scopes)) == ("", "", "", [])
        assert not told.HasField("token_expire_time")
        assert told.audience == model_service_pb2.AUDIENCE_PUBLIC


async def test_a_check_names_the_scope_that_is_missing_and_the_remedy(server: Server) -> None:
    answer = await server.access.CheckAccess(
        CheckAccessRequest(action="generate", model=SMALL, response_logprobs=True),
        metadata=bearer(scope="generate:gpt2-124m"),
        timeout=LONG_SECONDS,
    )

    assert answer.reason == REASON_SCOPE_MISSING
    assert dict(answer.metadata) == {"required_scope": "logprobs:gpt2-124m"}
    assert answer.remedy == "A token with the scope `logprobs:gpt2-124m`."


async def test_the_check_of_a_score_asks_for_log_probabilities_unasked(server: Server) -> None:
    answer = await server.access.CheckAccess(
        CheckAccessRequest(action="score", model=SMALL), metadata=bearer(scope="score:gpt2-124m"), timeout=LONG_SECONDS
    )

    assert dict(answer.metadata) == {"required_scope": "logprobs:gpt2-124m"}
