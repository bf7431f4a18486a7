"""Quotas through the wire: what is refused, what a call may have, and what it is charged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from harness import LONG_SECONDS, SMALL, Server, bearer, demo_plan, open_agreement, refusal, serving
from issuer import NOW

from sluicegate.v1 import access_service_pb2
from sluicegate.v1.access_service_pb2 import ListQuotasRequest, ListQuotasResponse, QuotaUsage
from sluicegate.v1.generation_pb2 import FINISH_REASON_MAX_OUTPUT_TOKENS, FINISH_REASON_QUOTA, GenerationConfig
from sluicegate.v1.generation_service_pb2 import (
    DetokenizeRequest,
    GenerateRequest,
    GenerateResponse,
    ScoreRequest,
    StreamGenerateRequest,
    TokenizeRequest,
)

CALLER, PARTNER, INSIDER = bearer(), bearer(client_id="lab-app"), bearer(client_id="eval-team")


def plan(**quotas: int) -> dict[str, Any]:
    """The release plan with these quotas for the public."""
    changed = demo_plan()
    changed["public"]["quotas"] = quotas
    return changed


def generate(server: Server, tokens: int, who: Any = CALLER, candidates: int = 1) -> Any:
    config = GenerationConfig(max_output_tokens=tokens, candidate_count=candidates)
    request = GenerateRequest(model=SMALL, text="a", config=config)
    return server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)


def stream(server: Server, tokens: int, who: Any = CALLER) -> Any:
    request = StreamGenerateRequest(model=SMALL, text="a", config=GenerationConfig(max_output_tokens=tokens))
    return server.generation.StreamGenerate(request, metadata=who, timeout=LONG_SECONDS)


def score(server: Server) -> Any:
    request = ScoreRequest(model=SMALL, text="It was a truth")
    return server.generation.Score(request, metadata=CALLER, timeout=LONG_SECONDS)


async def quotas(server: Server, who: Any = CALLER) -> ListQuotasResponse:
    answer: ListQuotasResponse = await server.access.ListQuotas(
        ListQuotasRequest(model=SMALL), metadata=who, timeout=LONG_SECONDS
    )
    return answer


async def used(server: Server, who: Any = CALLER) -> dict[str, int]:
    """What is used of each quota, by its name."""
    name = access_service_pb2.Quota.Name
    return {name(each.quota).removeprefix("QUOTA_"): each.used for each in (await quotas(server, who)).quotas}


@pytest.mark.parametrize(
    ("quota", "limit", "reason"),
    [
        ("requests_per_minute", 2, "REQUEST_RATE_LIMIT"),
        ("output_tokens_per_minute", 10, "TOKEN_RATE_LIMIT"),
        ("output_tokens_per_day", 10, "DAILY_TOKEN_QUOTA"),
    ],
)
async def test_a_call_beyond_a_quota_is_refused_and_told_when_to_come_again(
    tmp_path: Path, quota: str, limit: int, reason: str
) -> None:
    async with serving(tmp_path, plan(**{quota: limit})) as server:
        for _ in range(2):
            await generate(server, 5)

        refused = await refusal(generate(server, 5))

        assert refused.verdict == f"RESOURCE_EXHAUSTED {reason}"
        assert refused.facts == {"quota": quota, "limit": str(limit), "used": str(limit)}
        assert {"ErrorInfo", "QuotaFailure", "RetryInfo", "RequestInfo"} == set(refused.details)
        assert refused.retry_after is not None
        assert 0 < refused.retry_after <= 86_400
        assert refused.pushback is not None


async def test_scored_tokens_have_a_quota_of_their_own(tmp_path: Path) -> None:
    async with serving(tmp_path, plan(scored_tokens_per_day=6)) as server:
        await score(server)
        await generate(server, 50)

        refused = await refusal(score(server))

        assert refused.verdict == "RESOURCE_EXHAUSTED DAILY_TOKEN_QUOTA"
        assert refused.facts["quota"] == "scored_tokens_per_day"


async def test_tokenizing_counts_as_a_request(tmp_path: Path) -> None:
    def tokenize(server: Server) -> Any:
        request = TokenizeRequest(model=SMALL, text="It was a truth")
        return server.generation.Tokenize(request, metadata=CALLER, timeout=LONG_SECONDS)

    async with serving(tmp_path, plan(requests_per_minute=2, output_tokens_per_day=5)) as server:
        await tokenize(server)
        request = DetokenizeRequest(model=SMALL, token_ids=[1])
        await server.generation.Detokenize(request, metadata=CALLER, timeout=LONG_SECONDS)

        refused = await refusal(tokenize(server))

        assert refused.verdict == "RESOURCE_EXHAUSTED REQUEST_RATE_LIMIT"
        assert await used(server) == {"REQUESTS_PER_MINUTE": 2, "OUTPUT_TOKENS_PER_DAY": 0}


async def test_a_place_among_the_streams_comes_back_with_the_end_of_one(tmp_path: Path) -> None:
    async with serving(tmp_path, plan(concurrent_streams=1)) as server:
        server.engine.pause_after(2)
        running = stream(server, 50)
        await running.read()

        refused = await refusal(generate(server, 1))
        running.cancel()
        server.engine.resume()
        answer = await _until_served(server)

        assert refused.verdict == "RESOURCE_EXHAUSTED CONCURRENCY_LIMIT"
        assert answer.usage.output_tokens == 1


async def _until_served(server: Server) -> GenerateResponse:
    """The answer once the cancelled stream's place is free: its end is settled a moment after its client has gone."""
    while True:
        try:
            answer: GenerateResponse = await generate(server, 1)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
        else:
            return answer


async def test_a_stream_stops_exactly_at_what_its_quota_held(tmp_path: Path) -> None:
    async with serving(tmp_path, plan(output_tokens_per_day=7)) as server:
        answer = await generate(server, 50)

        [candidate] = answer.candidates
        assert answer.started.max_output_tokens == 7
        assert candidate.finished.finish_reason == FINISH_REASON_QUOTA
        assert candidate.finished.output_tokens == answer.usage.output_tokens == 7
        assert await used(server) == {"OUTPUT_TOKENS_PER_DAY": 7}


async def test_what_a_caller_asked_for_is_not_its_quota(tmp_path: Path) -> None:
    async with serving(tmp_path, plan(output_tokens_per_day=7)) as server:
        answer = await generate(server, 7)

        assert answer.candidates[0].finished.finish_reason == FINISH_REASON_MAX_OUTPUT_TOKENS


async def test_candidates_share_what_the_quota_holds(tmp_path: Path) -> None:
    async with serving(tmp_path, plan(output_tokens_per_day=11)) as server:
        answer = await generate(server, 50, candidates=3)

        assert [each.finished.output_tokens for each in answer.candidates] == [3, 3, 3]
        assert {each.finished.finish_reason for each in answer.candidates} == {FINISH_REASON_QUOTA}
        assert await used(server) == {"OUTPUT_TOKENS_PER_DAY": 9}


async def test_a_quota_too_small_for_a_token_a_candidate_refuses(tmp_path: Path) -> None:
    async with serving(tmp_path, plan(output_tokens_per_day=2)) as server:
        refused = await refusal(generate(server, 50, candidates=3))

        assert refused.verdict == "RESOURCE_EXHAUSTED DAILY_TOKEN_QUOTA"
        assert await used(server) == {"OUTPUT_TOKENS_PER_DAY": 0}


async def test_a_cancelled_stream_is_charged_for_what_it_was_sent(tmp_path: Path) -> None:
    async with serving(tmp_path, plan(output_tokens_per_day=100)) as server:
        server.engine.pause_after(4)
        call = stream(server, 50)
        last = await call.read()
        while last.usage.output_tokens < 4:
            last = await call.read()
        reserved = await used(server)
        call.cancel()
        while (charged := await used(server)) == reserved:
            pass

        assert reserved == {"OUTPUT_TOKENS_PER_DAY": 50}
        assert charged == {"OUTPUT_TOKENS_PER_DAY": 4}


async def test_a_call_that_the_queue_turns_away_costs_no_tokens(tmp_path: Path) -> None:
    limits = {"queued_requests": 1}
    one_slot = {SMALL: {"slots": 1}}
    async with serving(tmp_path, plan(output_tokens_per_day=1_000), limits=limits, models=one_slot) as server:
        server.engine.pause_after(1)
        running = stream(server, 100)
        await running.read()
        waiting = stream(server, 100)
        while (await used(server))["OUTPUT_TOKENS_PER_DAY"] < 200:
            pass

        refused = await refusal(generate(server, 100))

        assert refused.verdict == "UNAVAILABLE SERVER_OVERLOADED"
        assert await used(server) == {"OUTPUT_TOKENS_PER_DAY": 200}
        waiting.cancel()
        running.cancel()


async def test_partners_are_counted_by_agreement_and_insiders_not_at_all(tmp_path: Path) -> None:
    terms = open_agreement(quotas={"output_tokens_per_day": 10, "requests_per_minute": 60})
    async with serving(tmp_path, plan(output_tokens_per_day=1), [terms]) as server:
        await generate(server, 10, PARTNER)

        refused = await refusal(generate(server, 10, PARTNER))
        served = await generate(server, 50, INSIDER)
        listed = await quotas(server, PARTNER)

        assert refused.verdict == "RESOURCE_EXHAUSTED DAILY_TOKEN_QUOTA"
        assert served.usage.output_tokens == 50
        assert listed.agreement == "agr-example-lab"
        assert await used(server, PARTNER) == {"REQUESTS_PER_MINUTE": 1, "OUTPUT_TOKENS_PER_DAY": 10}
        assert list((await quotas(server, INSIDER)).quotas) == []


async def test_clients_of_the_public_are_counted_apart(tmp_path: Path) -> None:
    async with serving(tmp_path, plan(output_tokens_per_day=10)) as server:
        await generate(server, 10)

        answer = await generate(server, 10, bearer(client_id="another"))

        assert answer.usage.output_tokens == 10


async def test_quotas_tell_limit_use_and_reset(tmp_path: Path) -> None:
    limits = {"concurrent_streams": 3, "requests_per_minute": 5, "output_tokens_per_call": 64}
    async with serving(tmp_path, plan(**limits)) as server:
        await generate(server, 1)

        streams, requests, per_call = sorted((await quotas(server)).quotas, key=lambda each: each.quota)

        assert _facts(streams) == ("QUOTA_CONCURRENT_STREAMS", 3, 0)
        assert _facts(requests) == ("QUOTA_REQUESTS_PER_MINUTE", 5, 1)
        assert _facts(per_call) == ("QUOTA_OUTPUT_TOKENS_PER_CALL", 64, 0)
        assert not streams.HasField("reset_time")
        assert not per_call.HasField("reset_time")
        assert NOW < requests.reset_time.seconds <= NOW + 60


def _facts(usage: QuotaUsage) -> tuple[str, int, int]:
    return access_service_pb2.Quota.Name(usage.quota), usage.limit, usage.used


async def test_quotas_come_in_pages(tmp_path: Path) -> None:
    async with serving(tmp_path, plan(concurrent_streams=3, requests_per_minute=5)) as server:
        first = await server.access.ListQuotas(
            ListQuotasRequest(model=SMALL, page_size=1), metadata=CALLER, timeout=LONG_SECONDS
        )
        token = first.next_page_token
        second = await server.access.ListQuotas(
            ListQuotasRequest(model=SMALL, page_size=1, page_token=token), metadata=CALLER, timeout=LONG_SECONDS
        )

        assert (len(first.quotas), len(second.quotas), second.next_page_token) == (1, 1, "")
        assert first.quotas[0].quota != second.quotas[0].quota


@pytest.mark.parametrize("model", ["gpt2-next", "no-such-model"])
async def test_quotas_of_a_model_that_is_closed_are_refused_like_a_call(tmp_path: Path, model: str) -> None:
    scope = f"generate:{model} score:{model} logprobs:{model}"
    async with serving(tmp_path, plan(requests_per_minute=5)) as server:
        refused = await refusal(
            server.access.ListQuotas(ListQuotasRequest(model=model), metadata=bearer(scope=scope), timeout=LONG_SECONDS)
        )

        assert refused.verdict == "PERMISSION_DENIED MODEL_NOT_RELEASED"
        assert refused.facts == {"stage": "s2"}


async def test_what_was_used_outlives_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path, plan(output_tokens_per_day=10)) as server:
        await generate(server, 10)

    async with serving(tmp_path, plan(output_tokens_per_day=10)) as server:
        refused = await refusal(generate(server, 1))

    assert refused.verdict == "RESOURCE_EXHAUSTED DAILY_TOKEN_QUOTA"
