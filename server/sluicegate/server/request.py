"""What a caller may ask of a model, in the terms of the use cases; fields are within their static bounds."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.auth import AccessRequest
from sluicegate.server.engine.messages import Sampling

Prompt = str | tuple[int, ...]
"""Text, or token ids."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A generation.

    `sampling.seed` and `sampling.max_output_tokens` are placeholders: `seed` and `max_output_tokens` here say what
    the caller set (None: nothing).
    """

    model: str
    prompt: Prompt
    sampling: Sampling
    seed: int | None
    max_output_tokens: int | None
    candidates: int
    stop_sequences: tuple[str, ...]
    include_tokens: bool
    purpose: str | None
    client_request_id: str
    priority: int = 0
    """As asked for; the grant says how much of it counts."""
    max_delay_seconds: float = 0.0
    min_tokens_per_message: int = 1

    def access(self) -> AccessRequest:
        """What the policy must know of it."""
        return AccessRequest(
            action="generate",
            model=self.model,
            purpose=self.purpose,
            logprobs=self.sampling.logprobs is not None,
            greedy=leaves_little_to_chance(self.sampling),
            token_bytes=self.include_tokens,
        )


LEAST_TEMPERATURE = 0.1
LEAST_MASS = 0.1
MOST_MIN_P = 0.9
"""Beyond these a draw is hardly one any more: it takes the likeliest token, or one of a few that are as likely."""


def leaves_little_to_chance(sampling: Sampling) -> bool:
    """Whether tokens are as good as determined, so that there is no choice that a watermark could be in."""
    return (
        sampling.temperature < LEAST_TEMPERATURE
        or sampling.top_k == 1
        or sampling.min_p > MOST_MIN_P
        or min(sampling.top_p, sampling.typical_p) < LEAST_MASS
    )


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """The log-probabilities of a text, each token's with `logprobs` alternatives."""

    model: str
    content: Prompt
    logprobs: int
    purpose: str | None
    client_request_id: str
    priority: int = 0

    def access(self) -> AccessRequest:
        """What the policy must know of it."""
        return AccessRequest(action="score", model=self.model, purpose=self.purpose, logprobs=True)
