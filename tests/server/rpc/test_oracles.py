"""No answer tells a model that is closed to a caller from one that does not exist: they are the same bytes.

The closed models are served here, to others: one that the stage keeps internal, and one that an operator withdrew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest
from harness import EVERY_SCOPE, LONG_SECONDS, SMALL, Server, bearer, demo_plan, open_agreement, serving
from issuer import ISSUER
from operators import withdraw

from sluicegate.server.rpc.status import DETAILS_TRAILER
from sluicegate.v1.access_service_pb2 import CheckAccessRequest, ListQuotasRequest
from sluicegate.v1.finding_service_pb2 import (
    FINDING_KIND_OTHER,
    FINDING_SEVERITY_LOW,
    CreateFindingRequest,
)
from sluicegate.v1.generation_service_pb2 import (
    DetokenizeRequest,
    GenerateRequest,
    ScoreRequest,
    StreamGenerateRequest,
    TokenizeRequest,
)
from sluicegate.v1.model_service_pb2 import GetModelRequest
from sluicegate.v1.withdrawal_service_pb2 import WithdrawalTarget

pytestmark = pytest.mark.asyncio(loop_scope="module")

Metadata = tuple[tuple[str, str], ...]
Ask = Callable[[Server, str, Metadata], Any]
INTERNAL, WITHDRAWN, UNKNOWN = "gpt2-next", "gpt2-774m", "gpt2-none"
"""Of one length: where a name is repeated to its caller, so is its length."""


def claiming(agreement: str) -> dict[str, object]:
    """The claims of a token that names an agreement."""
    return {"authorization_details": [{"type": "model_partnership", "agreement": agreement}]}


EVERY_SCOPE_AND_MORE = f"{EVERY_SCOPE} generate:{UNKNOWN} score:{UNKNOWN} logprobs:{UNKNOWN}"
CALLERS = {
    "stranger": bearer(scope=EVERY_SCOPE_AND_MORE),
    "stranger without a scope for either": bearer(scope=f"generate:{SMALL}"),
    "partner whose agreement leaves it out": bearer(scope=EVERY_SCOPE_AND_MORE, client_id="lab-app"),
    "stranger who claims an agreement that is not": bearer(scope=EVERY_SCOPE_AND_MORE, **claiming("agr-nowhere")),
    "stranger who claims another's agreement": bearer(scope=EVERY_SCOPE_AND_MORE, **claiming("agr-other-lab")),
    "partner who claims another's agreement": bearer(
        scope=EVERY_SCOPE_AND_MORE, client_id="lab-app", **claiming("agr-other-lab")
    ),
    "nobody": (),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    hosted = {model: {"device": "cpu", "slots": 1} for model in (SMALL, INTERNAL, WITHDRAWN)}
    terms = open_agreement(models=[SMALL])
    others = open_agreement(
        id="agr-other-lab", partner="other-lab", models=[WITHDRAWN], clients=[{"issuer": ISSUER, "client": "other-app"}]
    )
    directory = tmp_path_factory.mktemp("oracles")
    async with serving(directory, demo_plan(), [terms, others], models=hosted) as server:
        await withdraw(server, WithdrawalTarget(model=WITHDRAWN))
        yield server


QUESTIONS: dict[str, Ask] = {
    "Generate": lambda s, m, who: s.generation.Generate(GenerateRequest(model=m, text="The"), metadata=who),
    "StreamGenerate": lambda s, m, who: s.generation.StreamGenerate(
        StreamGenerateRequest(model=m, text="The"), metadata=who
    ),
    "Score": lambda s, m, who: s.generation.Score(ScoreRequest(model=m, text="The"), metadata=who),
    "Tokenize": lambda s, m, who: s.generation.Tokenize(TokenizeRequest(model=m, text="The"), metadata=who),
    "Detokenize": lambda s, m, who: s.generation.Detokenize(DetokenizeRequest(model=m), metadata=who),
    "GetModel": lambda s, m, who: s.models.GetModel(GetModelRequest(model=m), metadata=who),
    "CheckAccess to generate": lambda s, m, who: s.access.CheckAccess(
        CheckAccessRequest(action="generate", model=m), metadata=who
    ),
    "CheckAccess to score": lambda s, m, who: s.access.CheckAccess(
        CheckAccessRequest(action="score", model=m), metadata=who
    ),
    "CreateFinding": lambda s, m, who: s.findings.CreateFinding(
        CreateFindingRequest(
            kind=FINDING_KIND_OTHER, model=m, severity=FINDING_SEVERITY_LOW, summary="a drill", validate_only=True
        ),
        metadata=who,
    ),
    "ListQuotas": lambda s, m, who: s.access.ListQuotas(ListQuotasRequest(model=m), metadata=who),
    "health Check": lambda s, m, who: s.health.Check(HealthCheckRequest(service=f"models/{m}"), metadata=who),
    "health Watch": lambda s, m, who: s.health.Watch(
        HealthCheckRequest(service=f"models/{m}"), metadata=who, timeout=LONG_SECONDS
    ),
}


async def answer(call: Any, model: str) -> tuple[Any, ...]:
    """All that goes over the wire but for the call's id, with the model's name, where it was repeated, taken out."""
    try:
        message = await (call.read() if hasattr(call, "read") else call)
        call.cancel()  # a watch says nothing more until something changes
        told: tuple[Any, ...] = (message.SerializeToString(deterministic=True),)
    except grpc.aio.AioRpcError as error:
        trailers = [(key, without_id(key, value)) for key, value in error.trailing_metadata() or ()]
        told = (error.code(), error.details(), trailers)
    return (*((key, value) for key, value in await call.initial_metadata()), repr(told).replace(model, "MODEL"))


def without_id(key: str, value: str | bytes) -> str | status_pb2.Status:
    if key != DETAILS_TRAILER:
        return str(value)
    assert isinstance(value, bytes)
    status = status_pb2.Status.FromString(value)
    for detail in status.details:
        if detail.Is(error_details_pb2.RequestInfo.DESCRIPTOR):
            detail.Clear()
    return status


@pytest.mark.parametrize("closed", [INTERNAL, WITHDRAWN])
@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_closed_model_answers_like_one_that_does_not_exist(
    server: Server, question: str, who: str, closed: str
) -> None:
    ask, caller = QUESTIONS[question], CALLERS[who]

    of_closed = await answer(ask(server, closed, caller), closed)
    of_unknown = await answer(ask(server, UNKNOWN, caller), UNKNOWN)

    assert of_closed == of_unknown


@pytest.mark.parametrize("question", QUESTIONS)
async def test_whom_a_model_is_open_to_gets_another_answer(server: Server, question: str) -> None:
    insider = bearer(scope=EVERY_SCOPE_AND_MORE, client_id="eval-team")
    server.engine.say("The end.")

    of_open = await answer(QUESTIONS[question](server, INTERNAL, insider), INTERNAL)
    of_unknown = await answer(QUESTIONS[question](server, UNKNOWN, insider), UNKNOWN)

    assert of_open != of_unknown


async def test_the_whole_answer_is_that_the_stage_does_not_open_it(server: Server) -> None:
    call = QUESTIONS["Generate"](server, INTERNAL, CALLERS["stranger"])

    told = (await answer(call, INTERNAL))[-1]

    assert "PERMISSION_DENIED" in told
    assert "MODEL_NOT_RELEASED" in told
    assert "s2" in told
    assert "MODEL'" not in told
