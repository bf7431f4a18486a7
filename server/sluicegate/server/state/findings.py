"""Findings: what partners and the community report on a model, and what operators make of each.

A finding never changes once it is filed. What the stores keep of it is its canonical form (RFC 8785), whose SHA-256 is
its digest: evidence that cites id and digest cites exactly this text. An operator's review stands beside it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum

import rfc8785

from sluicegate.server.state.errors import StoreUnsuitable

DOMAIN = "sluicegate/finding/v1"
"""Stands in every canonical form, so that no digest of a finding is one of something else."""
WINDOW_MS = 86_400_000
"""The bounds on filing hold for any stretch of so long: 24 hours."""


class FindingKind(StrEnum):
    """What a finding is about."""

    BIAS = "bias"
    MISUSE = "misuse"
    DETECTABILITY = "detectability"
    """How well the model's output can be told from people's."""
    MEMORISATION = "memorisation"
    OTHER = "other"


class Severity(StrEnum):
    """How bad the reporter thinks it is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class FindingStatus(StrEnum):
    """What operators have made of a finding so far."""

    OPEN = "open"
    """No operator has reviewed it."""
    ACCEPTED = "accepted"
    """It holds: it counts where a release stage asks for a finding."""
    REJECTED = "rejected"
    """It does not, and counts nowhere, for the duty to report neither."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that the reporter keeps, by its digest: the content is nowhere here. `sha256`: 64 hex digits."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the reporter says. `summary` is one line; `details` may have several and may be empty."""

    kind: FindingKind
    model: str
    severity: Severity
    summary: str
    details: str = ""
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A report as it was filed, with what the server adds. `created_ms`: Unix milliseconds, as in the id."""

    id: str
    """A UUID version 7: ids sort by time."""
    created_ms: int
    report: Report
    weights_sha256: str | None
    """Of the model's weights at the time; None where they were not known."""
    stage: str
    """In force at the time."""
    partner: str
    """The partner's name, or `public` or `internal`."""
    agreement: str | None
    """The agreement that it was filed under; None for callers without one."""
    reporter: str
    """Pseudonym of the client that filed it."""

    @property
    def canonical(self) -> bytes:
        """The one spelling of it, canonical JSON."""
        return rfc8785.dumps({**asdict(self), "domain": DOMAIN})

    @property
    def digest(self) -> str:
        """SHA-256 of `canonical`, hex: what evidence cites beside the id."""
        return hashlib.sha256(self.canonical).hexdigest()


@dataclass(frozen=True, slots=True)
class Review:
    """What an operator made of a finding, and why. `reviewed_at`: Unix seconds."""

    status: FindingStatus
    reviewed_at: int
    justification: str


@dataclass(frozen=True, slots=True)
class FiledFinding:
    """A finding with its review; None while there is none."""

    finding: Finding
    review: Review | None = None

    @property
    def status(self) -> FindingStatus:
        return FindingStatus.OPEN if self.review is None else self.review.status


@dataclass(frozen=True, slots=True)
class Bound:
    """Into this list no more than `most` findings may come in any 24 hours."""

    list: str
    most: int


@dataclass(frozen=True, slots=True)
class Crowded:
    """A finding was not filed, since a bound leaves no room before `free_at_ms` (Unix milliseconds)."""

    bound: Bound
    free_at_ms: int


@dataclass(frozen=True, slots=True)
class Filing:
    """One finding as a store takes it, with the lists it goes into and the bounds on some of them."""

    id: str
    entry: str
    lists: tuple[str, ...]
    bounds: tuple[Bound, ...] = ()
    request: str = ""
    """Key of the caller's request: one that filed a finding before files no other. Empty: it has none."""

    @property
    def since(self) -> str:
        """Below every id of the window that the bounds are counted in."""
        return first_id(time_of(self.id) - WINDOW_MS)


def list_of(*, partner: str | None = None, reporter: str | None = None, model: str | None = None) -> str:
    """The list of a partner's findings or, of callers without an agreement, of one client's; without either, of all.

    With a model only those on it. Partners' names, pseudonyms and model ids have no spaces, so no two lists share a
    name.
    """
    assert partner is None or reporter is None
    of = f"partner {partner}" if partner is not None else f"reporter {reporter}" if reporter is not None else "all"
    return of if model is None else f"{of} on {model}"


def list_under(agreement: str) -> str:
    """The list of findings filed under one agreement."""
    return f"agreement {agreement}"


def lists_of(finding: Finding) -> tuple[str, ...]:
    """Every list that a finding stands in."""
    model = finding.report.model
    lists = [list_of(model=each) for each in (None, model)]
    lists += [list_of(partner=finding.partner, model=each) for each in (None, model)]
    if finding.agreement is None:
        lists += [list_of(reporter=finding.reporter, model=each) for each in (None, model)]
    else:
        lists.append(list_under(finding.agreement))
    return tuple(lists)


def time_of(id_: str) -> int:
    """Unix milliseconds of a UUID version 7 (RFC 9562, section 5.7)."""
    return int(id_[:8] + id_[9:13], 16)


def first_id(milliseconds: int) -> str:
    """Sorts before every id of this millisecond, and after those of the one before."""
    digits = f"{max(0, milliseconds):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def decode_finding(text: str) -> Finding:
    """The finding of a canonical form. Raises StoreUnsuitable for one that this release does not understand."""
    try:
        members = json.loads(text)
        if members.pop("domain") != DOMAIN:
            raise ValueError("of another form")
        report = members.pop("report")
        attachments = tuple(Attachment(**each) for each in report.pop("attachments"))
        kind, severity = FindingKind(report.pop("kind")), Severity(report.pop("severity"))
        return Finding(report=Report(kind=kind, severity=severity, attachments=attachments, **report), **members)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreUnsuitable("a finding in the store was written by another release; run that one") from error


def encode_review(review: Review) -> str:
    """A review as the stores keep it."""
    return json.dumps(asdict(review))


def decode_review(text: str) -> Review:
    """The review of a text of `encode_review`. Raises StoreUnsuitable."""
    try:
        members = json.loads(text)
        return Review(status=FindingStatus(members.pop("status")), **members)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreUnsuitable("a review in the store was written by another release; run that one") from error
