"""What operators see of a replica's engines: plain frozen data, free of wire messages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sluicegate.client.results import ModelState


class RequestState(StrEnum):
    """Where a call is."""

    UNSPECIFIED = "UNSPECIFIED"
    """A state that this version of the client does not know."""
    QUEUED = "QUEUED"
    """It has no slots yet."""
    RUNNING = "RUNNING"
    STALLED = "STALLED"
    """Its reader takes nothing."""


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """One model in its engine. What is None is not known while the model is not loaded."""

    model: str
    state: ModelState
    queued_requests: int
    """Calls that wait for slots."""
    running_sequences: int
    """Sequences that hold a slot: one for each candidate of a call."""
    slots: int | None
    cache_bytes: int | None
    """Memory of its keys and values, whether sequences run or not."""
    device: str | None
    dtype: str | None
    weights_sha256: str | None


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One engine process."""

    device: str
    """As the server's settings have it."""
    alive: bool
    """If not, it is being started again."""
    restarts: int
    """How often it was lost since the server started."""
    models: tuple[ModelLoad, ...]


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """How a replica stops."""

    announce_seconds: float
    """It still takes calls for so long."""
    grace_seconds: float
    """Calls under way may go on for so long after that."""
    active_requests: int
    """Calls under way now: with the last of them the wait is over."""


@dataclass(frozen=True, slots=True)
class ActiveRequest:
    """One call under way: nothing of its text."""

    request_id: str
    model: str
    action: str
    """generate, score or tokenize."""
    state: RequestState
    age_seconds: float
    agreement: str | None
    issuer: str | None
    """None, as is the client: a caller without a token."""
    client_id: str | None
    prompt_tokens: int
    output_tokens: int
    """Generated so far."""
