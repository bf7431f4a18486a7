"""What a generation tells its caller: the events of its output, in the order in which they come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from sluicegate.auth import Grant
from sluicegate.server.engine import messages
from sluicegate.server.signals import PiiType


class FinishReason(Enum):
    """Why a candidate ended, where the caller's own limits ended it."""

    STOP = auto()
    STOP_SEQUENCE = auto()
    MAX_OUTPUT_TOKENS = auto()
    CONTEXT_LENGTH = auto()
    QUOTA = auto()
    FLAGGED = auto()
    """By the agreement's terms: its text met the lexicon."""


class Mark(Enum):
    """Whether a generation's output carries a watermark."""

    NOT_DUE = auto()
    APPLIED = auto()
    GREEDY = auto()
    """One is due where possible; the request leaves too little to chance."""


@dataclass(frozen=True, slots=True)
class Started:
    """What the call runs under. For a score, which draws nothing, `seed`, `max_output_tokens` and the queue are 0."""

    request_id: str
    client_request_id: str
    grant: Grant
    weights_sha256: str
    prompt_tokens: int
    priority: int
    seed: int = 0
    max_output_tokens: int = 0
    queue_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Delta:
    """More output of one candidate. `tokens` is empty unless the caller asked for them."""

    candidate: int
    text: str
    tokens: tuple[messages.Token, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of one candidate."""

    candidate: int
    reason: FinishReason
    stop_sequence: str | None
    output_tokens: int
    mark: Mark
    watermark_id: str | None
    """Of the key, where the mark was applied."""
    redactions: Mapping[PiiType, int]
    """How much personal data of each type was taken out."""


@dataclass(slots=True)
class Usage:
    """Tokens counted for the caller so far.

    `cached_tokens`: those of the prompt that the engine had cached; they count like the others. `scored`: the text's
    log-probabilities were delivered.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    output_tokens: int = 0
    scored: bool = False
