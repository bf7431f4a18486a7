from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from client_server import FakeServer, Hold, Refusal, generated, started_message

from sluicegate.client import (
    AccessDenied,
    Audience,
    Client,
    ConfigurationError,
    Detokenized,
    FinishReason,
    GenerationConfig,
    InvalidRequest,
    ModelTarget,
    StreamOptions,
    Usage,
    Withdrawal,
)
from sluicegate.v1 import (
    access_service_pb2,
    generation_pb2,
    generation_service_pb2,
    model_service_pb2,
    reason_pb2,
    withdrawal_service_pb2,
)

NOT_OPEN = Refusal(code=grpc.StatusCode.PERMISSION_DENIED, reason="MODEL_NOT_RELEASED")


async def test_generate_sends_all_that_it_is_told_and_returns_the_whole(server: FakeServer) -> None:
    server.will("Generate", [generated("upon a time", "there was")])

    async with Client(server.target) as client:
        generation = await client.generate(
            "gpt2-124m",
            "Once",
            GenerationConfig(temperature=0.0, candidate_count=2),
            include_tokens=True,
            purpose="evaluation",
            client_request_id="mine-1",
            priority=-10,
        )

    request = server.calls[0].asked(generation_service_pb2.GenerateRequest)
    assert (request.model, request.text, request.purpose) == ("gpt2-124m", "Once", "evaluation")
    assert (request.config.candidate_count, request.client_request_id, request.priority) == (2, "mine-1", -10)
    assert request.config.HasField("temperature")
    assert request.include_tokens
    assert generation.text == "upon a time"
    assert [each.text for each in generation.candidates] == ["upon a time", "there was"]
    assert generation.candidates[1].finish_reason is FinishReason.MAX_OUTPUT_TOKENS
    assert generation.usage == Usage(prompt_tokens=3, output_tokens=4)


async def test_stream_sends_all_that_it_is_told(server: FakeServer) -> None:
    server.will("StreamGenerate", [])

    async with Client(server.target) as client:
        options = StreamOptions(include_tokens=True)
        stream = client.stream("m", [1, 2], options=options, purpose="p", client_request_id="mine", priority=2)
        _ = [event async for event in stream]

    request = server.calls[0].asked(generation_service_pb2.StreamGenerateRequest)
    assert list(request.token_ids.ids) == [1, 2]
    assert (request.purpose, request.client_request_id, request.priority) == ("p", "mine", 2)
    assert request.stream_options.include_tokens
    assert not request.HasField("config")


async def test_score_returns_each_token_with_its_log_probability(server: FakeServer) -> None:
    answer = generation_service_pb2.ScoreResponse(
        started=started_message(),
        tokens=[generation_pb2.Token(id=7, bytes=b"Once", log_probability=-1.5)],
        total_log_probability=-1.5,
    )
    server.will("Score", [answer])

    async with Client(server.target) as client:
        score = await client.score("m", "Once", logprobs=2, priority=3)

    request = server.calls[0].asked(generation_service_pb2.ScoreRequest)
    assert (request.logprobs, request.priority) == (2, 3)
    assert (score.tokens[0].log_probability, score.total_log_probability) == (-1.5, -1.5)


async def test_text_becomes_tokens_and_tokens_text(server: FakeServer) -> None:
    tokens = [generation_pb2.Token(id=7, bytes=b"Once")]
    server.will("Tokenize", [generation_service_pb2.TokenizeResponse(tokens=tokens)])
    server.will("Detokenize", [generation_service_pb2.DetokenizeResponse(text="\ufffd", bytes=b"\xc3")])

    async with Client(server.target) as client:
        found = await client.tokenize("m", "Once", purpose="p")
        text = await client.detokenize("m", [7, 8], purpose="p")

    assert [token.id for token in found] == [7]
    assert text == Detokenized(text="\ufffd", bytes=b"\xc3")
    assert list(server.calls[1].asked(generation_service_pb2.DetokenizeRequest).token_ids) == [7, 8]


async def test_models_are_read_page_by_page(server: FakeServer) -> None:
    pages = [
        model_service_pb2.ListModelsResponse(models=[model_service_pb2.Model(id="a")], next_page_token="two"),
        model_service_pb2.ListModelsResponse(models=[model_service_pb2.Model(id="b")]),
    ]
    server.will("ListModels", [pages[0]], [pages[1]])

    async with Client(server.target) as client:
        models = await client.models()

    assert [model.id for model in models] == ["a", "b"]
    assert [call.asked(model_service_pb2.ListModelsRequest).page_token for call in server.calls] == ["", "two"]


async def test_one_model_is_shown_or_refused(server: FakeServer) -> None:
    server.will("GetModel", [model_service_pb2.GetModelResponse(model=model_service_pb2.Model(id="a"))], [NOT_OPEN])

    async with Client(server.target) as client:
        model = await client.model("a")
        with pytest.raises(AccessDenied) as caught:
            await client.model("b")

    assert model.id == "a"
    assert caught.value.reason == "MODEL_NOT_RELEASED"


async def test_whoami_says_who_the_server_takes_the_caller_to_be(server: FakeServer) -> None:
    answer = access_service_pb2.GetCallerIdentityResponse(
        subject="alice", audience=model_service_pb2.AUDIENCE_PARTNER, scopes=["generate:m"]
    )
    server.will("GetCallerIdentity", [answer])

    async with Client(server.target) as client:
        identity = await client.whoami()

    assert (identity.subject, identity.audience, identity.scopes) == ("alice", Audience.PARTNER, ("generate:m",))


async def test_quotas_of_all_pages_are_one_list(server: FakeServer) -> None:
    usage = access_service_pb2.QuotaUsage
    day = usage(quota=access_service_pb2.QUOTA_OUTPUT_TOKENS_PER_DAY, limit=100, used=7)
    day.reset_time.FromSeconds(1_770_000_000)
    pages = (
        access_service_pb2.ListQuotasResponse(quotas=[day], next_page_token="two"),
        access_service_pb2.ListQuotasResponse(
            quotas=[usage(quota=access_service_pb2.QUOTA_CONCURRENT_STREAMS, limit=4)]
        ),
    )
    server.will("ListQuotas", [pages[0]], [pages[1]])

    async with Client(server.target) as client:
        daily, places = await client.quotas("m")

    assert (daily.quota, daily.limit, daily.used) == ("output_tokens_per_day", 100, 7)
    assert daily.resets is not None
    assert daily.resets.isoformat() == "2026-02-02T02:40:00+00:00"
    assert (places.quota, places.limit, places.used, places.resets) == ("concurrent_streams", 4, 0, None)
    assert [call.asked(access_service_pb2.ListQuotasRequest).page_token for call in server.calls] == ["", "two"]


async def test_check_asks_without_calling(server: FakeServer) -> None:
    answer = access_service_pb2.CheckAccessResponse(
        reason=reason_pb2.REASON_SCOPE_MISSING, metadata={"required_scope": "score:m"}, remedy="get the scope"
    )
    server.will("CheckAccess", [answer])

    async with Client(server.target) as client:
        access = await client.check(
            "m", action="score", purpose="p", response_logprobs=True, greedy=True, include_tokens=True
        )

    assert server.calls[0].request == access_service_pb2.CheckAccessRequest(
        action="score", model="m", purpose="p", response_logprobs=True, greedy=True, include_tokens=True
    )
    assert (access.allowed, access.reason, access.remedy) == (False, "SCOPE_MISSING", "get the scope")
    assert access.metadata == {"required_scope": "score:m"}


async def test_a_call_that_another_side_holds_is_ended_by_its_id(server: FakeServer) -> None:
    server.will("CancelGeneration", [generation_service_pb2.CancelGenerationResponse()])

    async with Client(server.target, token="t") as client:
        await client.cancel_generation("r-1")

    assert server.calls[0].request == generation_service_pb2.CancelGenerationRequest(request_id="r-1")


def withdrawal_message(id_: str, model: str = "m") -> withdrawal_service_pb2.Withdrawal:
    target = withdrawal_service_pb2.WithdrawalTarget(model=model)
    made = withdrawal_service_pb2.Withdrawal(id=id_, target=target, justification="a drill", operator="olga")
    made.create_time.FromSeconds(1_770_000_000)
    return made


@pytest.mark.parametrize("validate_only", [False, True])
async def test_an_operator_closes_a_model(server: FakeServer, validate_only: bool) -> None:
    answer = withdrawal_service_pb2.CreateWithdrawalResponse(withdrawal=withdrawal_message("w-1"))
    server.will("CreateWithdrawal", [answer])

    async with Client(server.target) as client:
        made = await client.create_withdrawal(ModelTarget("m"), "a drill", validate_only=validate_only)

    assert server.calls[0].request == withdrawal_service_pb2.CreateWithdrawalRequest(
        target=withdrawal_service_pb2.WithdrawalTarget(model="m"), justification="a drill", validate_only=validate_only
    )
    created = datetime(2026, 2, 2, 2, 40, tzinfo=UTC)
    assert made == Withdrawal("w-1", ModelTarget("m"), created, "a drill", "olga", expires=None)


async def test_withdrawals_of_all_pages_are_one_list(server: FakeServer) -> None:
    pages = (
        withdrawal_service_pb2.ListWithdrawalsResponse(withdrawals=[withdrawal_message("w-1")], next_page_token="two"),
        withdrawal_service_pb2.ListWithdrawalsResponse(withdrawals=[withdrawal_message("w-2")]),
    )
    server.will("ListWithdrawals", [pages[0]], [pages[1]])

    async with Client(server.target) as client:
        found = await client.list_withdrawals()

    requests = [call.asked(withdrawal_service_pb2.ListWithdrawalsRequest) for call in server.calls]
    assert [each.id for each in found] == ["w-1", "w-2"]
    assert [(each.page_size, each.page_token) for each in requests] == [(100, ""), (100, "two")]


@pytest.mark.parametrize("validate_only", [False, True])
async def test_an_operator_lifts_a_withdrawal_with_signatures(server: FakeServer, validate_only: bool) -> None:
    server.will("LiftWithdrawal", [withdrawal_service_pb2.LiftWithdrawalResponse()])

    async with Client(server.target) as client:
        await client.lift_withdrawal("w-1", "over", signatures={"lead": "AAAA"}, validate_only=validate_only)

    assert server.calls[0].request == withdrawal_service_pb2.LiftWithdrawalRequest(
        id="w-1",
        justification="over",
        signatures=[withdrawal_service_pb2.LiftingSignature(signer="lead", value="AAAA")],
        validate_only=validate_only,
    )


async def test_missing_signatures_are_told_with_how_many_are_needed(server: FakeServer) -> None:
    refused = Refusal(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason="SIGNATURES_REQUIRED",
        metadata={"needed": "2", "valid": "1"},
    )
    server.will("LiftWithdrawal", [refused])

    async with Client(server.target) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.lift_withdrawal("w-1", "over")

    assert (caught.value.reason, caught.value.metadata) == ("SIGNATURES_REQUIRED", {"needed": "2", "valid": "1"})
    assert caught.value.remedy == (
        "have 2 signers sign the lifting of this withdrawal (`sluicegate policy sign-lifting`); 1 valid so far"
    )


async def test_closing_is_tried_again_where_a_replica_does_not_answer(server: FakeServer) -> None:
    answer = withdrawal_service_pb2.CreateWithdrawalResponse(withdrawal=withdrawal_message("w-1"))
    gone = Refusal(code=grpc.StatusCode.UNAVAILABLE, reason="STATE_UNAVAILABLE", pushback_ms="1")
    server.will("CreateWithdrawal", [gone], [answer])

    async with Client(server.target) as client:
        made = await client.create_withdrawal(ModelTarget("m"), "a drill")

    assert (made.id, len(server.calls)) == ("w-1", 2)


async def test_a_request_that_no_message_can_carry_is_refused_before_it_is_sent(server: FakeServer) -> None:
    async with Client(server.target) as client:
        with pytest.raises(InvalidRequest):
            await client.generate("m", "\ud800")
        with pytest.raises(InvalidRequest):
            client.stream("m", "x", GenerationConfig(top_k=-1))

    assert server.calls == []


async def test_a_request_over_the_message_limit_is_the_request_s_fault_and_no_quota(server: FakeServer) -> None:
    huge = "x" * (4 << 20)

    async with Client(server.target) as client:
        with pytest.raises(InvalidRequest, match="4194304 bytes"):
            await client.generate("m", huge)
        with pytest.raises(InvalidRequest, match="4194304 bytes"):
            await anext(client.stream("m", huge))

    assert server.calls == []


async def test_a_call_s_own_timeout_comes_before_the_client_s(server: FakeServer) -> None:
    server.will("Generate", [Hold()])

    async with Client(server.target, timeout=600) as client:
        with pytest.raises(Exception, match="DEADLINE_EXCEEDED"):
            await client.generate("m", "x", timeout=0.1)


async def test_a_task_that_is_cancelled_in_a_call_ends_it_on_the_server(server: FakeServer) -> None:
    server.will("Generate", [Hold()])

    async with Client(server.target) as client:
        task = asyncio.create_task(client.generate("m", "x"))
        (call,) = await asyncio.to_thread(server.wait_for_calls, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await asyncio.to_thread(call.wait_for_end)


async def test_a_closed_client_cannot_be_used(server: FakeServer) -> None:
    client = Client(server.target)
    await client.close()
    await client.close()

    with pytest.raises(ConfigurationError, match="closed"):
        await client.whoami()


@pytest.mark.parametrize("target", ["", "http://localhost:1", "https://server.example", "grpc://server.example:1"])
def test_a_target_that_is_a_url_is_refused(target: str) -> None:
    with pytest.raises(ConfigurationError, match="not a URL"):
        Client(target)


@pytest.mark.parametrize("target", ["bad target", "server.example:443\n", " ", "dns:///bad target"])
def test_a_target_with_a_blank_is_no_target_and_no_matter_of_tls(target: str) -> None:
    with pytest.raises(ConfigurationError, match="without spaces"):
        Client(target, token="abc")


@pytest.mark.parametrize("form", ["unix:{}", "unix://{}"])
async def test_a_unix_socket_is_a_target_in_both_forms(tmp_path: Path, form: str) -> None:
    server = grpc.aio.server()
    path = tmp_path / "s"
    server.add_insecure_port(f"unix:{path}")
    await server.start()

    async with Client(form.format(path), token="abc") as client:
        with pytest.raises(Exception, match="UNIMPLEMENTED"):
            await client.whoami()

    await server.stop(None)
