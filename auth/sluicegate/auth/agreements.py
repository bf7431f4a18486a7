"""A partner's agreement, one file of `agreements/`: the written terms as data."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sluicegate.auth.fields import (
    Acrs,
    Day,
    DayWindow,
    Listing,
    ModelIds,
    Name,
    Names,
    Network,
    PartnerName,
    Seconds,
    Sha256,
    Slug,
    Terms,
    Timestamp,
    TimeZone,
)
from sluicegate.auth.grant import MAX_PRIORITY, Quotas, WatermarkTerm
from sluicegate.auth.release import Client, Signature

RESERVED_PARTNERS = frozenset({"public", "internal", "partner", "anonymous", "other"})
"""Words that mean something else as a metric label."""


def _not_reserved(name: str) -> str:
    if name in RESERVED_PARTNERS:
        raise ValueError(f"a partner cannot be called {name}: the word means something else in metrics")
    return name


class LegalTerms(Terms):
    """The document that this data stands for."""

    document: Name
    sha256: Sha256
    signed_on: Day
    non_commercial: bool = False


class Validity(Terms):
    """From when, and until before when, the agreement holds."""

    from_: Timestamp = Field(alias="from")
    until: Timestamp

    @model_validator(mode="after")
    def _ordered(self) -> Validity:
        if self.from_ >= self.until:
            raise ValueError("`until` must come after `from`")
        return self


class OutputTerms(Terms):
    """What is done to generated text."""

    watermark: WatermarkTerm = "none"
    redaction: Literal["pii", "none"] = "none"
    flagged: Literal["count", "stop"] = "count"


class TokenTerms(Terms):
    """What the caller's token must be like, beyond what the verifier wants of every token."""

    max_lifetime: Seconds | None = None
    binding: Literal["mtls", "none"] = "none"
    acr: Acrs = ()
    max_auth_age: Seconds | None = None


class HourTerms(Terms):
    """Working hours in the agreement's time zone; days without hours are outside."""

    weekdays: DayWindow | None = None
    weekends: DayWindow | None = None
    mode: Literal["signal", "enforce"] = "signal"

    def include(self, moment: datetime) -> bool:
        """Whether a moment, in the agreement's time zone, is inside."""
        window = self.weekdays if moment.weekday() < 5 else self.weekends
        return window is not None and window[0] <= moment.hour * 60 + moment.minute < window[1]


class FindingTerms(Terms):
    """The duty to report findings."""

    due_every: Seconds


class Agreement(Terms):
    """One agreement. Lists that narrow (`purposes`, `networks`) do not narrow when they are left out."""

    id: Slug
    partner: Annotated[PartnerName, AfterValidator(_not_reserved)]
    status: Literal["draft", "active", "suspended", "terminated"]
    legal: LegalTerms
    valid: Validity
    clients: Annotated[Listing[Client], Field(min_length=1)]
    models: Annotated[ModelIds, Field(min_length=1)]
    actions: Annotated[Listing[Literal["generate", "score"]], Field(min_length=1)]
    purposes: Names = ()
    output: OutputTerms = OutputTerms()
    timezone: TimeZone
    token: TokenTerms = TokenTerms()
    networks: Listing[Network] = ()
    hours: HourTerms | None = None
    quotas: Quotas
    max_priority: Annotated[int, Field(ge=0, le=MAX_PRIORITY)] = 0
    findings: FindingTerms | None = None
    signature: Signature | None = None

    @property
    def may_come_into_force(self) -> bool:
        """False for drafts and for what was terminated: they cover nothing."""
        return self.status in ("active", "suspended")

    def names(self, issuer: str, client_id: str) -> bool:
        return any(client.issuer == issuer and client.client == client_id for client in self.clients)
