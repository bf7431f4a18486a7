"""What calls answer with: plain frozen data, free of wire messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique

from sluicegate.client.findings import FindingDuty


@unique
class FinishReason(StrEnum):
    """Why a candidate ended, where the end is the caller's own limit."""

    UNSPECIFIED = "UNSPECIFIED"
    """A reason that this version of the client does not know."""
    STOP = "STOP"
    """The end-of-text token or one of `stop_token_ids`."""
    STOP_SEQUENCE = "STOP_SEQUENCE"
    """One of `stop_sequences`."""
    MAX_OUTPUT_TOKENS = "MAX_OUTPUT_TOKENS"
    """`Started.max_output_tokens` is reached."""
    CONTEXT_LENGTH = "CONTEXT_LENGTH"
    """The model's context is full."""
    QUOTA = "QUOTA"
    """The tokens reserved from the caller's quota are used up."""
    FLAGGED = "FLAGGED"
    """The output met a category that the agreement stops at."""


@unique
class Watermark(StrEnum):
    """Whether a candidate's text carries a watermark."""

    UNSPECIFIED = "UNSPECIFIED"
    """The server does not say, or something that this version of the client does not know."""
    NOT_DUE = "NOT_DUE"
    APPLIED = "APPLIED"
    GREEDY = "GREEDY"
    """One is asked for where possible; greedy decoding leaves no choice that it could be in, so there is none."""


@unique
class PersonalDataType(StrEnum):
    """A kind of personal data. `[EMAIL]` and the like stand in the text where some was taken out."""

    UNSPECIFIED = "UNSPECIFIED"
    """A kind that this version of the client does not know."""
    EMAIL = "EMAIL"
    PHONE = "PHONE"
    CARD = "CARD"
    IBAN = "IBAN"
    NATIONAL_ID = "NATIONAL_ID"
    IP_ADDRESS = "IP_ADDRESS"


@unique
class Audience(StrEnum):
    """Whom a model is open to, or whom a caller counts as. Each includes those before it."""

    UNSPECIFIED = "UNSPECIFIED"
    """Nobody, or an audience that this version of the client does not know."""
    PUBLIC = "PUBLIC"
    PARTNER = "PARTNER"
    INTERNAL = "INTERNAL"


@unique
class ModelState(StrEnum):
    """Whether a model answers now."""

    UNSPECIFIED = "UNSPECIFIED"
    """A state that this version of the client does not know."""
    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted for the caller so far."""

    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class TopToken:
    """One alternative at a position."""

    id: int
    bytes: bytes
    log_probability: float


@dataclass(frozen=True, slots=True)
class Token:
    """One token. Its bytes are not always whole UTF-8 characters."""

    id: int
    bytes: bytes
    log_probability: float | None
    """Natural logarithm; None unless asked for."""
    top: tuple[TopToken, ...]
    """The most likely tokens at this position, most likely first; empty unless asked for."""


@dataclass(frozen=True, slots=True)
class Started:
    """What a call runs under: the first event of every stream."""

    request_id: str
    client_request_id: str
    model: str
    weights_sha256: str
    stage: str
    policy_revision: str
    agreement: str | None
    prompt_tokens: int
    seed: int
    max_output_tokens: int
    queue_seconds: float
    priority: int
    """That counts: the one asked for, or the agreement's highest where that is lower."""


@dataclass(frozen=True, slots=True)
class Delta:
    """More output of one candidate. The text is whole characters and may be empty."""

    candidate: int
    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of one candidate."""

    candidate: int
    finish_reason: FinishReason
    stop_sequence: str | None
    output_tokens: int
    watermark: Watermark = Watermark.UNSPECIFIED
    watermark_id: str | None = None
    """Of the key; None without a watermark."""
    redactions: Mapping[PersonalDataType, int] = field(default_factory=dict)
    """How much personal data of each type was taken out of the text."""


Event = Started | Delta | Finished


@dataclass(frozen=True, slots=True)
class Candidate:
    """One continuation, whole."""

    text: str
    tokens: tuple[Token, ...]
    finish_reason: FinishReason
    stop_sequence: str | None
    output_tokens: int
    watermark: Watermark = Watermark.UNSPECIFIED
    watermark_id: str | None = None
    """Of the key; None without a watermark."""
    redactions: Mapping[PersonalDataType, int] = field(default_factory=dict)
    """How much personal data of each type was taken out of the text."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole generation."""

    started: Started
    candidates: tuple[Candidate, ...]
    usage: Usage

    @property
    def text(self) -> str:
        """The first candidate's text; empty if there is none."""
        return self.candidates[0].text if self.candidates else ""


@dataclass(frozen=True, slots=True)
class Score:
    """A text's log-probabilities, natural logarithm."""

    started: Started
    tokens: tuple[Token, ...]
    total_log_probability: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class Detokenized:
    """Text made from tokens: `bytes` exactly, `text` with U+FFFD for what is no UTF-8."""

    text: str
    bytes: bytes


@dataclass(frozen=True, slots=True)
class CallerAccess:
    """Whether the caller may generate with a model."""

    allowed: bool
    reason: str | None
    agreement: str | None


@dataclass(frozen=True, slots=True)
class Model:
    """What a careful user must know of a model.

    Counts are None, and `weights_sha256` and `dtype` empty, while the model is not loaded.
    """

    id: str
    description: str
    parameters: int | None
    context_length: int | None
    vocabulary_size: int | None
    weights_sha256: str
    license: str
    source: str
    intended_use: str
    unacceptable_use: str
    stage: str
    open_to: Audience
    state: ModelState
    caller_access: CallerAccess
    dtype: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """The terms that a caller comes under. Empty `purposes`: none need be stated."""

    id: str
    partner: str
    status: str
    models: tuple[str, ...]
    actions: tuple[str, ...]
    purposes: tuple[str, ...]
    valid_from: datetime | None
    valid_until: datetime | None
    finding_duty: FindingDuty | None = None
    """None: it has none, or the server cannot tell at present."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the server takes the caller to be. Empty strings and no expiry: an anonymous caller."""

    issuer: str
    subject: str
    client_id: str
    audience: Audience
    scopes: tuple[str, ...]
    token_expires: datetime | None
    agreement: Agreement | None
    stage: str
    policy_revision: str


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """One quota: `limit`, and what is used of it, with what calls under way have reserved."""

    quota: str
    """Its name, as `output_tokens_per_day`."""
    limit: int
    used: int
    resets: datetime | None
    """When `used` begins anew; None for a quota without a window."""


@dataclass(frozen=True, slots=True)
class Access:
    """Whether a call would be allowed; quotas and load are not part of the answer."""

    allowed: bool
    reason: str | None
    metadata: Mapping[str, str]
    remedy: str
    audience: Audience
    agreement: str | None
    max_output_tokens: int | None
    """Most output tokens the call could have; None: only the context limits it, or refused."""
    max_priority: int
    """Highest priority that would count; 0 when refused."""
