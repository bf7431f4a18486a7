"""From the API's request messages to what the use cases take. What a message leaves out gets its default here."""

from __future__ import annotations

from typing import Literal, get_args

from sluicegate.auth import AccessRequest, Reason
from sluicegate.server.engine.messages import Sampling
from sluicegate.server.errors import CallRefused, FieldViolation
from sluicegate.server.request import GenerationRequest, Prompt, ScoreRequest
from sluicegate.v1 import access_service_pb2, generation_pb2, generation_service_pb2

_SamplingField = Literal[
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "ignore_eos",
]
_SAMPLING_FIELDS: tuple[_SamplingField, ...] = get_args(_SamplingField)
"""Fields of GenerationConfig that are Sampling's too; unset ones keep Sampling's default."""


def generation(request: generation_service_pb2.GenerateRequest) -> GenerationRequest:
    """A unary generation: nothing leaves before the end."""
    include = request.include_tokens if request.HasField("include_tokens") else request.config.response_logprobs
    return _generation(request, include_tokens=include)


def stream(request: generation_service_pb2.StreamGenerateRequest) -> GenerationRequest:
    """A streamed generation."""
    options = request.stream_options
    include = options.include_tokens if options.HasField("include_tokens") else request.config.response_logprobs
    return _generation(request, include_tokens=include, options=options)


def score(request: generation_service_pb2.ScoreRequest) -> ScoreRequest:
    """A score."""
    return ScoreRequest(
        model=request.model,
        content=_prompt(request),
        logprobs=request.logprobs,
        purpose=request.purpose or None,
        client_request_id=request.client_request_id,
        priority=request.priority,
    )


def check(request: access_service_pb2.CheckAccessRequest) -> AccessRequest:
    """A call that is only asked about."""
    return AccessRequest(
        action=request.action,
        model=request.model,
        purpose=request.purpose or None,
        logprobs=request.response_logprobs or request.action == "score",
        greedy=request.greedy,
        token_bytes=request.include_tokens,
    )


def _generation(
    request: generation_service_pb2.GenerateRequest | generation_service_pb2.StreamGenerateRequest,
    *,
    include_tokens: bool,
    options: generation_pb2.StreamOptions | None = None,
) -> GenerationRequest:
    config = request.config
    return GenerationRequest(
        model=request.model,
        prompt=_prompt(request),
        sampling=_sampling(config),
        seed=config.seed if config.HasField("seed") else None,
        max_output_tokens=config.max_output_tokens or None,
        candidates=config.candidate_count or 1,
        stop_sequences=tuple(config.stop_sequences),
        include_tokens=include_tokens or config.response_logprobs,
        purpose=request.purpose or None,
        client_request_id=request.client_request_id,
        priority=request.priority,
        max_delay_seconds=options.max_delay.ToNanoseconds() / 1e9 if options is not None else 0.0,
        min_tokens_per_message=options.min_tokens_per_message or 1 if options is not None else 1,
    )


def _sampling(config: generation_pb2.GenerationConfig) -> Sampling:
    if config.HasField("logprobs") and not config.response_logprobs:
        rule = "needs response_logprobs, which returns the chosen token's own"
        raise CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation("config.logprobs", rule)])
    given = {name: getattr(config, name) for name in _SAMPLING_FIELDS if config.HasField(name)}
    return Sampling(
        **given,
        logit_bias=dict(config.logit_bias),
        stop_token_ids=tuple(config.stop_token_ids),
        logprobs=config.logprobs if config.response_logprobs else None,
    )


def _prompt(
    request: generation_service_pb2.GenerateRequest
    | generation_service_pb2.StreamGenerateRequest
    | generation_service_pb2.ScoreRequest,
) -> Prompt:
    return request.text if request.HasField("text") else tuple(request.token_ids.ids)
