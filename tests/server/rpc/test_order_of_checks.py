"""Who calls, what is sent, who may: in this order. test_oracles.py holds that nobody learns more than that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness import EVERY_SCOPE, SMALL, Server, bearer, refusal
from issuer import token

from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import (
    GenerateRequest,
)
from sluicegate.v1.model_service_pb2 import ListModelsRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

Metadata = tuple[tuple[str, str], ...]
Ask = Callable[[Server, str, Metadata], Any]
UNKNOWN = "gpt2-unheard-of"
UNKNOWN_TOO = f"{EVERY_SCOPE} generate:{UNKNOWN} score:{UNKNOWN} logprobs:{UNKNOWN}"


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
