"""What callers ask with: how to generate, and how to cut a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Prompt = str | Sequence[int]
"""Text, or ids of the model's vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """How tokens are drawn and when to stop. None and empty mean the server's default.

    generation.proto documents each field and its bounds; the server checks them.
    """

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    candidate_count: int | None = None
    stop_sequences: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    ignore_eos: bool | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream is cut into messages. None means the server's default."""

    max_delay_seconds: float | None = None
    min_tokens_per_message: int | None = None
    include_tokens: bool | None = None
