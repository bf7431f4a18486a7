"""What is asked of the policy and what it answers: request, grant, denial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sluicegate.auth.principal import Audience
from sluicegate.auth.reasons import Reason

MAX_PRIORITY = 10
"""The highest that a call can ask for."""

WatermarkTerm = Literal["none", "where_possible", "required"]
"""Whether generated text is marked, each stricter than the one before. `where_possible` serves what leaves too little
to chance for a mark; `required` refuses it."""

_Limit = Annotated[int, Field(ge=1, le=10**12)]


class Quotas(BaseModel):
    """Upper limits of one caller; None where there is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    concurrent_streams: _Limit | None = None
    requests_per_minute: _Limit | None = None
    output_tokens_per_minute: _Limit | None = None
    output_tokens_per_day: _Limit | None = None
    output_tokens_per_call: _Limit | None = None
    scored_tokens_per_day: _Limit | None = None

    def narrowed_by(self, limits: Mapping[str, int | None]) -> Quotas:
        """These quotas with the smaller of both limits wherever `limits` has one."""
        smaller = {
            name: limit
            for name, limit in limits.items()
            if limit is not None and ((own := getattr(self, name)) is None or limit < own)
        }
        return self.model_copy(update=smaller) if smaller else self


QUOTA_NAMES = frozenset(Quotas.model_fields)


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """What a decision has to know of a call."""

    action: str
    """`generate` or `score`."""
    model: str
    purpose: str | None = None
    logprobs: bool = False
    """Log-probabilities are asked for."""
    greedy: bool = False
    """Temperature 0, top_k 1 or as good as either: too little is left to chance for a watermark."""
    token_bytes: bool = False
    """Token ids or bytes are asked for beside the text."""
    partner_only: bool = False
    """The method is there for partners only."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The outcome of an allowed decision: the limits that this one call runs under."""

    action: str
    model: str
    audience: Audience
    stage: str
    policy_revision: str
    agreement: str | None
    partner: str
    """`public`, `internal` or the partner's name: safe as a metric label."""
    max_output_tokens: int | None
    """For this call; None where neither policy, agreement nor token limits it."""
    watermark: bool
    """Mark what the call generates, unless it is greedy."""
    redaction: str | None
    """`pii`, or None for none."""
    stop_flagged: bool
    """End the stream when its text is flagged; otherwise flags are only counted."""
    outside_hours: bool
    """The call comes outside the agreement's hours, which only signal."""
    expires_at: int
    """Unix seconds: the end of the token or of the agreement, whichever is first."""
    quotas: Quotas
    max_priority: int = 0
    """Highest priority that a call may have among its identity's own; a lower one it may always have."""

    def priority(self, asked: int) -> int:
        """The priority that counts: what is too high is lowered, not refused, as an output that is too long is cut."""
        return min(asked, self.max_priority)


@dataclass(frozen=True, slots=True)
class Denied:
    """The outcome of a refused decision: the first check that failed. `detail` holds public facts only."""

    reason: Reason
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One check of a decision, as `explain` shows it."""

    row: int
    """Row of the decision table in docs/access.md."""
    check: str
    passed: bool | None
    """None: not reached, since an earlier check failed."""
    denied: Denied | None = None
