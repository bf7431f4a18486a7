"""What calls tell of where their time goes, and what it comes to where nobody listens: nothing.

spans.py listens, with OpenTelemetry, which is an optional extra. This module needs nothing installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Phase(Enum):
    """A part of a call's time, with the name of its span. A call is in one at a time, or in none."""

    AUTHENTICATE = "authenticate"
    DECIDE = "decide"
    QUEUE = "queue"
    """From the engine being asked until the call holds its slots."""
    PREFILL = "prefill"
    """Until the first token."""
    DECODE = "decode"
    """Until the call's end."""


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call ended. `code`: gRPC's name and number; `reason`: None for a call that was served."""

    code: str
    code_number: int
    reason: str | None
    prompt_tokens: int | None
    """None, as the next two, for a call that did not come to tokens."""
    cached_tokens: int | None
    """Those of the prompt that were cached."""
    output_tokens: int | None
    finishes: Sequence[str]


class CallTrace(Protocol):
    """One call's times. Event loop only. Times are `time.monotonic()` seconds."""

    @property
    def is_recording(self) -> bool:
        """Whether it matters what it is told."""

    @property
    def exemplar(self) -> dict[str, str] | None:
        """The label of metrics' exemplars: the trace's id, and nothing else; None where there is no trace."""

    def begin(self, phase: Phase, at: float | None = None) -> None:
        """A phase begins, now or at an earlier time, and the one before ends."""

    def end(self) -> None:
        """The phase ends, and none begins."""

    def describe(self, *, model: str | None = None, partner: str | None = None, audience: str | None = None) -> None:
        """Say what the call is, as metrics have it: never a name that a caller chose. None leaves what was said."""

    def finish(self, end: CallEnd) -> None:
        """The call is over; nothing may be told afterwards."""


class Tracing(Protocol):
    """Begins traces."""

    def begin(
        self, service: str, method: str, request_id: str, arrived: float, traceparent: Callable[[], str | None]
    ) -> CallTrace:
        """The trace of a call that has arrived. `traceparent`: the caller's, as W3C Trace Context has it."""


class NoTrace:
    """Of a call that is not traced."""

    is_recording = False
    exemplar: dict[str, str] | None = None

    def begin(self, phase: Phase, at: float | None = None) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def describe(self, *, model: str | None = None, partner: str | None = None, audience: str | None = None) -> None:
        """Nothing."""

    def finish(self, end: CallEnd) -> None:
        """Nothing."""


NO_TRACE: CallTrace = NoTrace()


class NoTracing:
    """Traces no call."""

    def begin(
        self,
        service: str,  # noqa: ARG002
        method: str,  # noqa: ARG002
        request_id: str,  # noqa: ARG002
        arrived: float,  # noqa: ARG002
        traceparent: Callable[[], str | None],  # noqa: ARG002
    ) -> CallTrace:
        """None of them."""
        return NO_TRACE
