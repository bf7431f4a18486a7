"""Who calls, what is sent, who may: in this order. And what is closed looks like what does not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import EVERY_SCOPE, LONG_SECONDS, SMALL, Refusal, Server, bearer, refusal
from issuer import token

from sluicegate.v1.access_service_pb2 import CheckAccessRequest
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import (
    DetokenizeRequest,
    GenerateRequest,
    ScoreRequest,
    StreamGenerateRequest,
    TokenizeRequest,
)
from sluicegate.v1.model_service_pb2 import GetModelRequest, ListModelsRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

Metadata = tuple[tuple[str, str], ...]
Ask = Callable[[Server, str, Metadata], Any]
UNKNOWN = "gpt2-unheard-of"
UNKNOWN_TOO = f"{EVERY_SCOPE} generate:{UNKNOWN} score:{UNKNOWN} logprobs:{UNKNOWN}"


def questions() -> Iterator[tuple[str, Ask]]:
    """Every way to ask about a model."""
    yield "Generate", lambda s, m, who: s.generation.Generate(GenerateRequest(model=m, text="The"), metadata=who)
    yield (
        "StreamGenerate",
        lambda s, m, who: s.generation.StreamGenerate(StreamGenerateRequest(model=m, text="The"), metadata=who),
    )
    yield "Score", lambda s, m, who: s.generation.Score(ScoreRequest(model=m, text="The"), metadata=who)
    yield "Tokenize", lambda s, m, who: s.generation.Tokenize(TokenizeRequest(model=m, text="The"), metadata=who)
    yield "Detokenize", lambda s, m, who: s.generation.Detokenize(DetokenizeRequest(model=m), metadata=who)
    yield "GetModel", lambda s, m, who: s.models.GetModel(GetModelRequest(model=m), metadata=who)


CALLERS = {
    "stranger": bearer(scope=UNKNOWN_TOO),
    "partner whose agreement leaves it out": bearer(scope=UNKNOWN_TOO, client_id="lab-app"),
}


def without_ids(refused: Refusal) -> tuple[Any, ...]:
    return refused.verdict, refused.text, refused.facts, refused.details, refused.violations, refused.retry_after


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize(("name", "ask"), list(questions()), ids=[name for name, _ in questions()])
async def test_a_closed_model_is_refused_like_one_that_does_not_exist(
    shared: Server, name: str, ask: Ask, who: str
) -> None:
    closed = await refusal(ask(shared, "gpt2-next", CALLERS[who]))
    unknown = await refusal(ask(shared, UNKNOWN, CALLERS[who]))

    assert closed.verdict == "PERMISSION_DENIED MODEL_NOT_RELEASED"
    assert closed.facts == {"stage": "s2"}
    assert without_ids(closed) == without_ids(unknown)


@pytest.mark.parametrize("who", CALLERS)
async def test_a_check_says_the_same_of_both(shared: Server, who: str) -> None:
    closed, unknown = [
        await shared.access.CheckAccess(
            CheckAccessRequest(action="generate", model=model), metadata=CALLERS[who], timeout=LONG_SECONDS
        )
        for model in ("gpt2-next", UNKNOWN)
    ]

    assert closed == unknown
    assert not closed.allowed


async def test_a_closed_model_without_scope_is_refused_for_the_scope_alone(shared: Server) -> None:
    caller = bearer(scope="generate:gpt2-124m")

    for model in ("gpt2-next", UNKNOWN):
        refused = await refusal(shared.generation.Generate(GenerateRequest(model=model, text="The"), metadata=caller))

        assert refused.verdict == "PERMISSION_DENIED SCOPE_MISSING"
        assert refused.facts == {"required_scope": f"generate:{model}"}


async def test_the_caller_is_asked_before_the_fields(shared: Server) -> None:
    refused = await refusal(shared.generation.Generate(GenerateRequest(), metadata=()))

    assert refused.verdict == "UNAUTHENTICATED TOKEN_MISSING"


async def test_the_fields_are_read_before_the_scope(shared: Server) -> None:
    refused = await refusal(
        shared.generation.Generate(GenerateRequest(model=UNKNOWN), metadata=bearer(token(scope="generate:gpt2-355m")))
    )

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"


async def test_the_context_is_measured_after_access_is_decided(shared: Server) -> None:
    config = GenerationConfig(max_output_tokens=4_096)

    closed, open_ = [
        await refusal(
            shared.generation.Generate(
                GenerateRequest(model=model, text="The", config=config), metadata=bearer(scope=UNKNOWN_TOO)
            )
        )
        for model in (UNKNOWN, SMALL)
    ]

    assert closed.verdict == "PERMISSION_DENIED MODEL_NOT_RELEASED"
    assert open_.verdict == "INVALID_ARGUMENT CONTEXT_LENGTH_EXCEEDED"
    assert open_.facts == {"context_length": "1024", "prompt_tokens": "1", "max_output_tokens": "4096"}


async def test_a_model_that_is_not_loaded_is_said_to_be_so_only_to_those_who_may_use_it(shared: Server) -> None:
    request = GenerateRequest(model="gpt2-355m", text="The")

    with_scope = await refusal(shared.generation.Generate(request, metadata=bearer()))
    without = await refusal(shared.generation.Generate(request, metadata=bearer(scope="generate:gpt2-124m")))

    assert with_scope.verdict == "UNAVAILABLE MODEL_NOT_READY"
    assert (with_scope.retry_after, with_scope.pushback) == (2.0, "2000")
    assert with_scope.details == ("ErrorInfo", "RetryInfo", "RequestInfo")
    assert without.verdict == "PERMISSION_DENIED SCOPE_MISSING"


async def test_a_page_token_is_read_after_the_caller_is_known(shared: Server) -> None:
    refused = await refusal(shared.models.ListModels(ListModelsRequest(page_token="gpt2-next"), metadata=()))

    assert refused.verdict == "UNAUTHENTICATED TOKEN_MISSING"
