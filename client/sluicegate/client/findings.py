"""Findings on models, and the duty to report them: plain frozen data, free of wire messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique


@unique
class FindingKind(StrEnum):
    """What a finding is about."""

    UNSPECIFIED = "UNSPECIFIED"
    """A kind that this version of the client does not know."""
    BIAS = "BIAS"
    """The model treats groups of people differently."""
    MISUSE = "MISUSE"
    """It was, or can be, used to do harm."""
    DETECTABILITY = "DETECTABILITY"
    """How well its output can be told from what people write."""
    MEMORISATION = "MEMORISATION"
    """It recites what it was trained on."""
    OTHER = "OTHER"


@unique
class FindingSeverity(StrEnum):
    """How bad its reporter thinks it is."""

    UNSPECIFIED = "UNSPECIFIED"
    """One that this version of the client does not know."""
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    """To be dealt with before the model is opened wider."""
    HIGH = "HIGH"
    """To be dealt with now."""
    CRITICAL = "CRITICAL"
    """The model should be closed until it is dealt with."""


@unique
class FindingStatus(StrEnum):
    """What operators have made of a finding."""

    UNSPECIFIED = "UNSPECIFIED"
    """A status that this version of the client does not know."""
    OPEN = "OPEN"
    """Nothing yet."""
    ACCEPTED = "ACCEPTED"
    """It holds, and counts where a release stage asks for a finding."""
    REJECTED = "REJECTED"
    """It does not hold, and counts nowhere."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that the reporter keeps: the server gets its digest, never its content."""

    name: str
    """Without folders."""
    media_type: str
    """As `text/csv`."""
    size_bytes: int
    sha256: str
    """64 lower-case hex digits."""


@dataclass(frozen=True, slots=True)
class FindingReview:
    """What an operator has said of a finding."""

    reviewed: datetime
    justification: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. It never changes; `status` and `review` stand beside it."""

    id: str
    sha256: str
    """Of its canonical form: evidence cites it with the id."""
    kind: FindingKind
    model: str
    severity: FindingSeverity
    summary: str
    details: str
    attachments: tuple[Attachment, ...]
    created: datetime
    weights_sha256: str
    """Of the model's weights at that time; empty: they were not known."""
    stage: str
    partner: str
    """The partner's name, `public` or `internal`."""
    agreement: str | None
    reporter: str
    """Pseudonym of the client that filed it."""
    status: FindingStatus
    review: FindingReview | None


@dataclass(frozen=True, slots=True)
class FindingDuty:
    """An agreement's duty to report: at least one finding in each `due_every_seconds`."""

    agreement: str
    partner: str
    due_every_seconds: int
    last_finding: datetime | None
    """The last one filed under it that was not rejected; None: none was."""
    due: datetime
    is_overdue: bool
