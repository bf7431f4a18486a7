"""The whole server with a real model: the smallest demo model in torch, its weights pinned by the policy."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from harness import DEMO, LONG_SECONDS, SMALL, TOKENIZER, Server, bearer, demo_plan, serving

from sluicegate.server.gpt2.loading import load_runner
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest, GenerateResponse, ScoreRequest
from sluicegate.v1.model_service_pb2 import GetModelRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "The committee has"
DENORMAL = 1e-45
AT_THEIR_BOUNDS: Mapping[str, Mapping[str, Any]] = {
    "almost no temperature": {"temperature": DENORMAL},
    "the highest temperature": {"temperature": 2.0},
    "one token to choose": {"top_k": 1},
    "more tokens than there are": {"top_k": 1_000_000},
    "almost no mass": {"top_p": DENORMAL},
    "only the likeliest": {"min_p": 1.0},
    "almost no typical mass": {"typical_p": DENORMAL},
    "almost no repetition penalty": {"repetition_penalty": DENORMAL},
    "the highest repetition penalty": {"repetition_penalty": 10.0},
    "the lowest penalties": {"presence_penalty": -2.0, "frequency_penalty": -2.0},
    "the highest penalties": {"presence_penalty": 2.0, "frequency_penalty": 2.0},
    "bias for all": {"logit_bias": dict.fromkeys(range(1_024), 100.0)},
    "bias against all": {"logit_bias": dict.fromkeys(range(1_024), -100.0)},
    "all at once": {
        "temperature": DENORMAL,
        "top_k": 1,
        "top_p": DENORMAL,
        "min_p": 1.0,
        "typical_p": DENORMAL,
        "repetition_penalty": DENORMAL,
        "logit_bias": dict.fromkeys(range(1_024), -100.0),
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    plan = demo_plan()
    digests = (DEMO.parent / "SHA256SUMS").read_text().split()
    plan["models"][SMALL]["weights_sha256"] = digests[digests.index("demo-xs/model.safetensors") - 1]
    models = {SMALL: {"device": "cpu", "dtype": "float32", "slots": 8}}
    async with serving(tmp_path_factory.mktemp("demo"), plan, models=models, load=load_runner) as server:
        yield server


async def generate(server: Server, text: str = PROMPT, **config: Any) -> GenerateResponse:
    request = GenerateRequest(model=SMALL, text=text, config=GenerationConfig(**{"max_output_tokens": 12, **config}))
    answer: GenerateResponse = await server.generation.Generate(request, metadata=bearer(), timeout=LONG_SECONDS)
    return answer


def texts(answer: GenerateResponse) -> list[str]:
    return [candidate.text for candidate in answer.candidates]


async def test_a_seed_gives_the_same_text_alone_and_in_company(server: Server) -> None:
    alone = await generate(server, seed=7)

    company = await asyncio.gather(*(generate(server, seed=seed) for seed in (7, 8, 9, 10)))

    assert texts(company[0]) == texts(alone)
    assert len({tuple(texts(answer)) for answer in company}) > 1


async def test_a_seed_that_the_server_drew_can_be_used_again(server: Server) -> None:
    first = await generate(server, candidate_count=3)

    second = await generate(server, candidate_count=3, seed=first.started.seed)

    assert texts(second) == texts(first)
    assert len(set(texts(first))) > 1


async def test_two_calls_without_a_seed_get_two(server: Server) -> None:
    answers = [await generate(server, max_output_tokens=1) for _ in range(2)]

    assert answers[0].started.seed != answers[1].started.seed


async def test_without_temperature_the_text_is_always_the_same(server: Server) -> None:
    answers = [await generate(server, temperature=0.0, seed=seed) for seed in (1, 2)]

    assert texts(answers[0]) == texts(answers[1])


async def test_a_score_gives_the_log_probabilities_that_the_generation_had(server: Server) -> None:
    generated = await generate(server, temperature=0.0, response_logprobs=True)
    [candidate] = generated.candidates
    prompt = TOKENIZER.encode(PROMPT)
    request = ScoreRequest(model=SMALL, logprobs=1)
    request.token_ids.ids.extend([TOKENIZER.end_of_text or 0, *prompt])

    call: Any = server.generation.Score(request, metadata=bearer(), timeout=LONG_SECONDS)
    scored = await call

    assert [token.id for token in scored.tokens] == [TOKENIZER.end_of_text, *prompt]
    assert math.isclose(
        scored.total_log_probability, sum(token.log_probability for token in scored.tokens), rel_tol=1e-5
    )
    assert all(token.log_probability <= token.top[0].log_probability + 1e-5 <= 1e-5 for token in scored.tokens)
    assert all(token.log_probability < 0 for token in candidate.tokens)


@pytest.mark.parametrize("config", AT_THEIR_BOUNDS.values(), ids=AT_THEIR_BOUNDS)
async def test_every_value_that_is_allowed_is_served(server: Server, config: Mapping[str, Any]) -> None:
    answer = await generate(server, seed=3, response_logprobs=True, logprobs=20, **config)

    tokens = answer.candidates[0].tokens
    assert 1 <= len(tokens) <= 12 or answer.candidates[0].finished.finish_reason == 1
    assert not any(math.isnan(token.log_probability) for token in tokens)


async def test_the_model_says_what_it_is(server: Server) -> None:
    answer = await server.models.GetModel(GetModelRequest(model=SMALL), metadata=bearer(), timeout=LONG_SECONDS)

    model = answer.model
    assert (model.context_length, model.vocabulary_size, model.dtype) == (1_024, 3_840, "float32")
    assert model.weights_sha256 in (DEMO.parent / "SHA256SUMS").read_text()
