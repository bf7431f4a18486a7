"""What all evidence files have in common: strict parts, one spelling, and a digest.

A file is the canonical JSON (RFC 8785) of its content and nothing more, so that its SHA-256, which `sha256sum` gives
too, names the content: there is no second file that says the same.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import rfc8785
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from sluicegate.evidence.binomial import is_interval
from sluicegate.evidence.errors import EvidenceError

MAX_FILE_BYTES = 32 << 20
"""Of a file that is read: some 100,000 pairs."""
CONFIDENCE = 0.95
"""Of every interval."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class Part(BaseModel):
    """A part of an evidence file: frozen, exact types, finite numbers, and no member that we do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_by_name=True)


def _moment(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise ValueError("a time is written as 2026-01-20T00:00:00Z")
    return datetime.strptime(value, _TIME).replace(tzinfo=UTC)


def _moment_text(value: datetime) -> str:
    return value.astimezone(UTC).strftime(_TIME)


Moment = Annotated[datetime, BeforeValidator(_moment), PlainSerializer(_moment_text)]
"""To the second, UTC."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
Rate = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,255}$")]


class ServedUnder(Part):
    """A stage and a policy revision that calls were served under."""

    stage: Text
    policy_revision: Text


class Subject(Part):
    """The model that was measured, as the server stated it."""

    model: Name
    weights_sha256: Sha256
    dtype: Text
    served_under: tuple[ServedUnder, ...]
    """All of them, sorted: a policy may change while a run lasts."""


class Interval(Part):
    """A confidence interval of a rate, after Clopper and Pearson 1934: it covers at least as often as it says."""

    confidence: Rate
    low: Rate
    high: Rate

    def is_of(self, successes: int, trials: int) -> bool:
        """Whether it is that of successes / trials, at 95 %."""
        return self.confidence == CONFIDENCE and is_interval(self.low, self.high, CONFIDENCE, successes, trials)


class Evidence(Part):
    """What every evidence file says."""

    tool: Name
    """Program and version that made it."""
    began: Moment
    ended: Moment
    subject: Subject


_Evidence = TypeVar("_Evidence", bound=Evidence)


def encode(evidence: Evidence) -> bytes:
    """The file's bytes."""
    return rfc8785.dumps(evidence.model_dump(mode="json", by_alias=True))


def digest(raw: bytes) -> str:
    """What the file is called by: SHA-256 of its bytes, hex."""
    return hashlib.sha256(raw).hexdigest()


def read(path: Path, kind: type[_Evidence]) -> tuple[_Evidence, str]:
    """The evidence in a file, and the file's digest. Raises EvidenceError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as fault:
        raise EvidenceError(f"{path} cannot be read: {fault.strerror}") from fault
    try:
        return parse(raw, kind), digest(raw)
    except EvidenceError as refused:
        raise EvidenceError(f"{path} {refused}") from None


def parse(raw: bytes, kind: type[_Evidence]) -> _Evidence:
    """The evidence that these bytes are. Raises EvidenceError for every other spelling, and for figures that are not
    those of the measurements beside them."""
    if len(raw) > MAX_FILE_BYTES:
        raise EvidenceError(f"is longer than {MAX_FILE_BYTES} bytes")
    try:
        found = kind.model_validate_json(raw)
    except ValidationError as refused:
        first = refused.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise EvidenceError(f"is not {kind.__name__}: {field}: {first['msg']}") from None
    if encode(found) != raw:
        raise EvidenceError("is not canonical JSON (RFC 8785): it was changed after it was made")
    return found
